"""Pages about a person are kept by nobody; what may be kept says so itself."""

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import User
from groups.models import Creator
from tests.test_authorization_matrix import ROWS, path_of, world

pytestmark = pytest.mark.django_db
__all__ = ["world"]


def test_every_page_of_a_studio_and_a_library_is_kept_by_nobody(
    world: dict[str, str | int],
    client_of: Callable[[User | None], Client],
    owner: User,
    member: User,
    creator: Creator,
) -> None:
    pages = [
        name for name in ROWS if name.startswith(("studio:", "library:", "account_", "messaging:", "redeem"))
    ]
    for name in pages:
        answer = client_of(member if name.startswith(("library:", "redeem")) else owner).get(
            path_of(name, world)
        )
        b"".join(answer)
        if answer.get("Content-Type", "").startswith(("text/html", "application/json")):
            assert "no-store" in answer["Cache-Control"], name

"""One press that arrives many times at once leads everybody to what came of it."""

from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import User
from groups.models import Contact, Group
from messaging.models import Message
from tests.factories import BundleFactory, ReleaseFactory
from tests.messaging.test_races import all_at_once
from tests.studio.conftest import url

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("button", ["confirm_release", "publish_release"])
def test_everybody_who_pressed_is_led_to_the_release(
    client_of: Callable[[User | None], Client],
    owner: User,
    patrons: Group,
    hobbyist: Group,
    contact: Contact,
    button: str,
) -> None:
    bundle = BundleFactory.create(creator=patrons.creator)
    release = ReleaseFactory.create(
        creator=patrons.creator, title="November", bundles=[bundle], groups=[hobbyist]
    )
    press = {
        "title": "November",
        "subject": "It is here",
        "bundles": [bundle.pk],
        "groups": [hobbyist.pk],
        "when": "now",
        "request_id": str(uuid4()),
        "revision": 0,
    }
    presses = [partial(client_of(owner).post, url(button, release.pk), press) for _ in range(12)]
    answers = all_at_once(presses)
    assert {(answer.status_code, answer.headers.get("Location")) for answer in answers} == {
        (302, url("release", release.pk))
    }
    assert Message.objects.count() == 1

from collections.abc import Callable
from datetime import datetime

import pytest
from django.test import Client

from accounts.models import User
from library import services
from library.models import Blob, Bundle, BundleVersion, Download, LibraryEntry, Upload
from tests import factories

pytestmark = pytest.mark.django_db
MODELS = [Bundle, BundleVersion, Blob, Upload, LibraryEntry, Download]


@pytest.fixture
def admin(client_of: Callable[[User | None], Client]) -> Client:
    return client_of(User.objects.create_superuser("root@example.org", "x"))


@pytest.fixture
def rows(owner: User, member: User, now: datetime) -> None:
    creator = factories.CreatorFactory.create(owner=owner)
    version = factories.BundleFactory.create(creator=creator).versions.get()
    services.open_upload(version.bundle, "a.stl", 5, by=owner, now=now)
    users = User.objects.filter(pk=member.pk).values_list("pk", flat=True)
    services.add_holdings(
        users, versions=[version], origin_key="release:1", title="March", group_name="Patrons", given_at=now
    )
    Download.objects.create(user=member, version=version, file=version.files.get(), at=now)


@pytest.mark.parametrize("model", MODELS)
def test_an_admin_reads_every_row_and_changes_none(admin: Client, rows: None, model: type) -> None:
    name = model.__name__.lower()
    pk = model.objects.get().pk  # type: ignore[attr-defined]
    assert admin.get(f"/admin/library/{name}/?q=a").status_code == 200
    page = admin.get(f"/admin/library/{name}/{pk}/change/")
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert admin.post(f"/admin/library/{name}/{pk}/change/", {}).status_code == 403
    assert admin.get(f"/admin/library/{name}/add/").status_code == 403
    assert admin.post(f"/admin/library/{name}/{pk}/delete/", {"post": "yes"}).status_code == 403

"""The installation's people see what was given and change none of it."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import User
from distribution.models import Grant, Release
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client_of: Callable[[User], Client]) -> Client:
    return client_of(factories.UserFactory.create(is_staff=True, is_superuser=True))


@pytest.mark.parametrize("model", ["release", "grant"])
def test_rows_are_shown_and_cannot_be_changed(admin: Client, grant: Grant, model: str) -> None:
    row = grant if model == "grant" else grant.release
    assert admin.get(reverse(f"admin:distribution_{model}_changelist")).status_code == 200
    assert admin.get(reverse(f"admin:distribution_{model}_changelist"), {"q": "ana"}).status_code == 200
    page = admin.get(reverse(f"admin:distribution_{model}_change", args=[row.pk]))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert admin.get(reverse(f"admin:distribution_{model}_add")).status_code == 403
    assert (
        admin.post(reverse(f"admin:distribution_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code
        == 403
    )
    assert Release.objects.count() == Grant.objects.count() == 1


def test_the_list_of_grants_costs_the_same_at_one_row_and_at_three(admin: Client, grant: Grant) -> None:
    url = reverse("admin:distribution_grant_changelist")
    with CaptureQueriesContext(connection) as at_one:
        admin.get(url)
    for contact in factories.ContactFactory.create_batch(2, creator=grant.release.creator):
        Grant.objects.create(release=grant.release, contact=contact, granted_at=grant.granted_at)
    with CaptureQueriesContext(connection) as at_three:
        admin.get(url)
    assert len(at_one) == len(at_three)

from datetime import datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEvent, User
from groups.models import Contact, Creator, Group, Import, ImportRow, Membership, OutsideId
from tests.factories import ContactFactory, CreatorFactory, GroupFactory, MembershipFactory

MODELS = [Creator, Group, Contact, Membership, Import, ImportRow]


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    client.force_login(User.objects.create_superuser("root@example.org"))
    return client


def add_rows(number: int, by: User, now: datetime) -> None:
    for line in range(number):
        main = GroupFactory.create(creator=CreatorFactory.create(owner=by))
        contact = ContactFactory.create(creator=main.creator, account=by)
        OutsideId.objects.create(creator=main.creator, contact=contact, source="patreon", value=str(line))
        run = Import.objects.create(group=main, by=by, created_at=now, layout={}, survey={}, mapping={})
        ImportRow.objects.create(import_run=run, line=line, verdict="new", contact=contact)
        sub = GroupFactory.create(creator=main.creator, parent=main)
        MembershipFactory.create(group=sub, contact=contact, brought_by=run)


@pytest.mark.parametrize("model", MODELS)
def test_every_list_costs_the_same_for_one_row_and_for_three(
    browser: Client, owner: User, now: datetime, model: type[Creator]
) -> None:
    page = reverse(f"admin:groups_{model._meta.model_name}_changelist")
    costs = []
    for _round in range(2):
        add_rows(1 if not costs else 2, owner, now)
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(page).status_code == 200
        costs.append(len(queries))

    assert costs[0] == costs[1]


@pytest.mark.parametrize("model", MODELS)
def test_a_row_is_shown_and_not_changed(
    browser: Client, owner: User, now: datetime, model: type[Creator]
) -> None:
    add_rows(1, owner, now)
    name = f"admin:groups_{model._meta.model_name}"

    assert browser.get(reverse(f"{name}_change", args=[model.objects.latest("pk").pk])).status_code == 200
    assert browser.get(reverse(f"{name}_add")).status_code == 403
    assert browser.post(reverse(f"{name}_change", args=[model.objects.latest("pk").pk])).status_code == 403
    search = browser.get(reverse(f"{name}_changelist"), {"q": "patreon"})
    assert search.status_code == 200


def test_an_admin_approves_pauses_and_resumes_and_it_is_logged(browser: Client, creator: Creator) -> None:
    Creator.objects.filter(pk=creator.pk).update(approved_at=None)
    for action in ("approve", "pause", "pause", "resume"):
        chosen = {"action": action, "_selected_action": [creator.pk]}
        browser.post(reverse("admin:groups_creator_changelist"), chosen)

    creator.refresh_from_db()
    assert creator.approved_at
    assert creator.paused_at is None
    verbs = AuditEvent.objects.order_by("pk").values_list("verb", "actor__email")
    assert list(verbs) == [
        (f"{verb} creator", "root@example.org") for verb in ("approved", "paused", "resumed")
    ]


def test_every_row_has_a_name(owner: User, patrons: Group, now: datetime) -> None:
    add_rows(1, owner, now)

    for model in MODELS:
        assert str(model.objects.latest("pk"))
    assert str(OutsideId.objects.get()) == "patreon 0"
    assert str(patrons.creator.staff.get()) == "Ana Moreau at Ana's Forge"

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEvent, User
from groups.models import Contact, Creator, Group
from messaging.models import Cadence, Chunk, Delivery, Message, Preference, Ramp, RecentMail

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    client.force_login(User.objects.create_superuser("root@example.org"))
    return client


@pytest.mark.parametrize("model", [Message, Chunk, Delivery, Preference])
def test_what_a_service_owns_is_shown_and_cannot_be_changed(
    browser: Client,
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    model: type[Message],
) -> None:
    message = start(confirm(draft))
    work()
    Preference.objects.create(
        creator=people[0].creator,
        contact=people[0],
        choice="nothing",
        changed_at=message.done_at or message.due_at,
    )
    name = model._meta.model_name
    with CaptureQueriesContext(
        connection,
    ) as cost:
        assert browser.get(reverse(f"admin:messaging_{name}_changelist")).status_code == 200
    assert len(cost) < 12
    row = model._default_manager.all()[0]
    assert browser.get(reverse(f"admin:messaging_{name}_change", args=[row.pk])).status_code == 200
    assert browser.get(reverse(f"admin:messaging_{name}_add")).status_code == 403
    assert browser.post(reverse(f"admin:messaging_{name}_change", args=[row.pk]), {}).status_code == 403


def test_an_admin_raises_the_ceiling_of_a_group_and_it_is_logged(browser: Client, hobbyist: Group) -> None:
    page = reverse("admin:messaging_cadence_add")
    assert browser.get(page).status_code == 200
    answer = browser.post(page, {"group": hobbyist.pk, "ceiling_week": 5, "ceiling_month": 12})
    assert answer.status_code == 302
    change = reverse("admin:messaging_cadence_change", args=[hobbyist.pk])
    assert browser.post(change, {"ceiling_week": 7, "ceiling_month": 20}).status_code == 302
    cadence = Cadence.objects.get()
    assert (cadence.group, cadence.ceiling_week, cadence.chosen_week, cadence.chosen_month) == (
        hobbyist,
        7,
        7,
        20,
    )
    assert list(AuditEvent.objects.order_by("pk").values_list("subject", flat=True)) == [
        "Patrons · Hobbyist: 2/6 → 5/12",
        "Patrons · Hobbyist: 5/12 → 7/20",
    ]
    assert browser.get(reverse("admin:messaging_cadence_changelist")).status_code == 200
    assert browser.post(reverse("admin:messaging_cadence_delete", args=[hobbyist.pk])).status_code == 403


@pytest.mark.parametrize("number", ["0", "-5", "1e9", "NaN", str(10**30)])
def test_a_ceiling_that_is_no_number_is_refused(browser: Client, hobbyist: Group, number: str) -> None:
    page = reverse("admin:messaging_cadence_add")
    answer = browser.post(page, {"group": hobbyist.pk, "ceiling_week": number, "ceiling_month": 6})
    assert answer.status_code == 200
    assert not Cadence.objects.exists()


def test_a_ceiling_for_a_week_that_its_month_would_never_allow_is_refused_beside_the_field(
    browser: Client, hobbyist: Group
) -> None:
    page = reverse("admin:messaging_cadence_add")
    answer = browser.post(page, {"group": hobbyist.pk, "ceiling_week": 7, "ceiling_month": 6})
    assert "7 in 7 days cannot be more than 6 in 30 days" in answer.content.decode()
    assert not Cadence.objects.exists()


def test_an_admin_lifts_a_ramp_that_has_not_begun(browser: Client, creator: Creator) -> None:
    page = reverse("admin:messaging_ramp_add")
    assert browser.get(page).status_code == 200
    assert browser.post(page, {"creator": creator.pk}).status_code == 302
    assert Ramp.objects.get(creator=creator).lifted_at
    assert AuditEvent.objects.get().verb == "lifted ramp"


def test_who_was_written_to_lately_can_be_looked_up(browser: Client, creator: Creator) -> None:
    row = RecentMail.objects.create(sender=0, address_key="mia@example.org", times=" 1700000000000")
    page = reverse("admin:messaging_recentmail_changelist")
    assert "mia@example.org" in browser.get(page, {"q": "mia@example.org"}).content.decode()
    assert browser.post(reverse("admin:messaging_recentmail_change", args=[row.pk])).status_code == 403

"""Why a mail came, and a place to say that it should not have."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from accounts.models import Letter, User
from groups.models import Contact, Group, Import, Membership
from groups.services import paste_list
from messaging import services
from messaging.breakers import FEWEST_COMPLAINTS
from messaging.models import Delivery, Message, Preference, Report
from messaging.tokens import ForgedToken, preferences_token, read_why_token, why_token
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def outside() -> Client:
    """No cookies, no session, and CSRF as a browser would meet it."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def delivery(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
) -> Delivery:
    start(confirm(draft))
    work()
    return Delivery.objects.get(contact=people[0])


def link(delivery: Delivery, page: str = "why") -> str:
    return reverse(f"messaging:{page}", args=[why_token(delivery.pk)])


def test_every_mail_leads_to_it(delivery: Delivery, outside: Client) -> None:
    [sent] = [sent for sent in mail.outbox if sent.to == [delivery.address_key]]
    for part in (str(sent.body), str(sent.alternatives[0][0])):
        assert link(delivery) in part


def test_it_says_who_which_group_since_when_and_what_they_chose(delivery: Delivery, outside: Client) -> None:
    page = outside.get(link(delivery)).content.decode()
    for words in (
        "Ana&#x27;s Forge gave you something",
        "November",
        delivery.address_key,
        "Patrons · Hobbyist",
        "1 Jan 2026",
        "Ana&#x27;s Forge added you by hand.",
        "A mail for each release",
        "hello@anas-forge.example",
        reverse("messaging:preferences", args=[preferences_token(delivery.contact_id)]),
        link(delivery, "report"),
    ):
        assert words in page


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("plain-list", "took your address over from a list"),
        ("patreon-2026", "took your address over from Patreon"),
    ],
)
def test_it_says_from_what_kind_of_list_the_address_was_taken(
    delivery: Delivery, outside: Client, hobbyist: Group, owner: User, now: datetime, form: str, said: str
) -> None:
    run = paste_list(hobbyist, "new@example.org", by=owner, now=now)
    Import.objects.update(format=form)
    Membership.objects.filter(contact=delivery.contact).update(brought_by=run)
    page = outside.get(link(delivery)).content.decode()
    assert said in page
    assert "Pasted list" not in page


def test_who_left_reads_until_when_and_who_was_erased_from_all_groups_reads_the_rest(
    delivery: Delivery, outside: Client, now: datetime
) -> None:
    mine = Membership.objects.filter(contact=delivery.contact)
    mine.update(ended_at=now - timedelta(days=1))
    page = outside.get(link(delivery)).content.decode()
    assert "Until" in page
    assert "20 Nov 2026" in page
    mine.delete()
    page = outside.get(link(delivery)).content.decode()
    assert "Member since" not in page
    assert delivery.address_key in page


@pytest.mark.parametrize(
    ("choice", "said"),
    [("weekly", "One mail a week"), ("nothing", "No mail"), ("each", "A mail for each release")],
)
def test_it_says_what_they_chose(
    delivery: Delivery, outside: Client, now: datetime, choice: str, said: str
) -> None:
    services.set_preference(delivery.contact, Preference.Choice(choice), now=now)
    assert said in outside.get(link(delivery)).content.decode()


def test_of_a_digest_it_names_all_that_was_told(delivery: Delivery, outside: Client, now: datetime) -> None:
    Message.objects.filter(pk=delivery.message_id).update(kind="digest")
    assert "November" not in outside.get(link(delivery)).content.decode()
    Delivery.objects.exclude(pk=delivery.pk).update(told_in=delivery.pk, reason="merged", state="skipped")
    assert "November" in outside.get(link(delivery)).content.decode()


def test_an_address_that_passed_to_somebody_else_is_shown_as_the_contacts(
    delivery: Delivery, outside: Client
) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(address_key=f"#{delivery.contact_id}")
    page = outside.get(link(delivery)).content.decode()
    assert f"#{delivery.contact_id}" not in page
    assert delivery.contact.address_key in page


def test_looking_changes_nothing(delivery: Delivery, outside: Client) -> None:
    for method in (outside.get, outside.head):
        for page in ("why", "report"):
            assert method(link(delivery, page)).status_code == 200
    assert outside.post(link(delivery)).status_code == 405
    assert outside.put(link(delivery, "report")).status_code == 405
    assert not Report.objects.exists()
    assert not Preference.objects.exists()


def test_a_report_is_kept_counts_once_stops_the_mail_and_tells_the_admins(
    delivery: Delivery, outside: Client
) -> None:
    UserFactory.create(email="admin@example.org", is_staff=True)
    for words in ("I never joined.", "And again!"):
        answer = outside.post(link(delivery, "report"), {"words": words})
        assert answer.status_code == 200
        assert b"Thank you" in answer.content
    report = Report.objects.get()
    assert (report.message, report.contact, report.words) == (
        delivery.message,
        delivery.contact,
        "I never joined.",
    )
    delivery.refresh_from_db()
    message = delivery.message
    message.refresh_from_db()
    assert (delivery.state, message.complained) == (Delivery.State.COMPLAINED, 1)
    assert [chunk.tally for chunk in message.chunks.all()] == [{"accepted": 4, "complained": 1}]
    assert services.preference_of(delivery.contact) == Preference.Choice.NOTHING
    letter = Letter.objects.get(address_key="admin@example.org", subject="A message was reported")
    assert "Ana's Forge" in letter.text
    assert "report" in letter.text
    assert b"You reported this message" in outside.get(link(delivery)).content


def test_reports_are_complaints_to_the_breaker(delivery: Delivery, outside: Client) -> None:
    creator = delivery.message.release.creator
    for number, each in enumerate(Delivery.objects.order_by("pk")[:FEWEST_COMPLAINTS], 1):
        outside.post(link(each, "report"))
        creator.refresh_from_db()
        assert bool(creator.paused_at) == (number == FEWEST_COMPLAINTS)
    assert "reported it as spam" in creator.paused_because


def test_the_admins_read_them(
    delivery: Delivery, outside: Client, client_of: Callable[[User], Client]
) -> None:
    outside.post(link(delivery, "report"), {"words": "I never joined."})
    admin = UserFactory.create(is_staff=True, is_superuser=True)
    page = client_of(admin).get(
        reverse("admin:messaging_report_changelist"), {"message": delivery.message_id}
    )
    assert "I never joined." in page.content.decode()


def test_what_a_provider_reported_already_is_not_counted_again(delivery: Delivery, now: datetime) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(state="complained")
    Message.objects.filter(pk=delivery.message_id).update(complained=1)
    assert services.report_message(delivery, words="", now=now)
    assert not services.report_message(delivery, words="", now=now)
    assert Message.objects.get(pk=delivery.message_id).complained == 1


def test_more_words_than_anybody_reads_are_refused_with_the_form(delivery: Delivery, outside: Client) -> None:
    answer = outside.post(link(delivery, "report"), {"words": "x" * 2001})
    assert answer.status_code == 200
    assert b"<form" in answer.content
    assert not Report.objects.exists()


def test_the_report_can_be_taken_for_a_mistake(delivery: Delivery, outside: Client) -> None:
    outside.post(link(delivery, "report"))
    preferences = reverse("messaging:preferences", args=[preferences_token(delivery.contact_id)])
    outside.post(preferences, {"choice": "each"})
    assert services.preference_of(delivery.contact) == Preference.Choice.EACH


@pytest.mark.parametrize("token", ["1", "1.", ".x", "1.AAAA", "x.AAAA", "9" * 400, "%00"])
def test_a_forged_link_is_not_found(outside: Client, delivery: Delivery, token: str) -> None:
    for page in ("why", "report"):
        assert outside.get(f"/{page}/{token}/").status_code == 404
        assert outside.post(f"/{page}/{token}/").status_code in {404, 405}


def test_a_link_opens_its_own_pages_only(outside: Client, delivery: Delivery) -> None:
    with pytest.raises(ForgedToken):
        read_why_token(preferences_token(delivery.contact_id))
    assert outside.get(f"/preferences/{why_token(delivery.contact_id)}/").status_code == 404
    assert outside.get(reverse("messaging:why", args=[why_token(10**6)])).status_code == 404


def test_nothing_of_it_is_kept_by_caches_or_told_to_others(delivery: Delivery, outside: Client) -> None:
    for page in ("why", "report"):
        answer = outside.get(link(delivery, page))
        assert answer["Referrer-Policy"] == "no-referrer"
        assert "noindex" in answer["X-Robots-Tag"]
        assert "no-store" in answer["Cache-Control"]

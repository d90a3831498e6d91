"""Whom a mail did not reach, by name, and what is done about it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import F
from django.test import Client
from django.utils import timezone

from accounts.models import Suppression, User
from groups.models import Contact, Creator
from messaging import services
from messaging.models import Delivery, Message
from tests import factories
from tests.studio import test_release
from tests.studio.conftest import url
from tests.studio.test_release import NOW, confirm, give, page_of, start

message, people = test_release.message, test_release.people

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(message: Message, owner: User) -> Message:
    """Everybody was written to."""
    confirm(message, owner)
    give(message)
    start(message)
    Delivery.objects.update(state="accepted", offered_at=NOW, attempts=1)
    count(message)
    message.chunks.update(state="done")
    services.finish_message(message.pk, now=NOW)
    message.refresh_from_db()
    return message


def count(message: Message) -> None:
    message.chunks.update(tally=Delivery.objects.filter(message=message).tally())


def lose(message: Message, number: int, state: str, reason: str = "", **changes: object) -> Delivery:
    mail = Delivery.objects.get(message=message, address_key=f"p{number}@x.example")
    Delivery.objects.filter(pk=mail.pk).update(state=state, reason=reason, **changes)
    count(message)
    mail.refresh_from_db()
    return mail


def look(studio: Client, message: Message, **query: object) -> str:
    answer = studio.get(url("undelivered", message.release_id), query)
    assert answer.status_code == 200
    return answer.content.decode()


def resend(studio: Client, message: Message, state: str, **data: object) -> str:
    data = {"message": message.pk, "state": state, **data}
    return studio.post(url("resend", message.release_id), data, follow=True).content.decode()


def states(message: Message) -> dict[str, int]:
    return Delivery.objects.filter(message=message).tally()


def test_when_everything_went_well_the_page_says_so(studio: Client, sent: Message) -> None:
    assert "Nobody is missing" in look(studio, sent)
    assert "Not reached" not in page_of(studio, sent)


@pytest.mark.parametrize(
    ("state", "reason", "words", "action"),
    [
        ("failed", "550 No such user", "550 No such user", "Send again to all 1"),
        ("bounced", "mailbox full", "came back for good", "New address"),
        ("unknown", "worker_lost", "may or may not have arrived", "I know that some may get it twice"),
        ("suppressed", "suppressed", "Another address changes that", "New address"),
        ("complained", "", "reported the mail as spam", ""),
        ("held", "weekly", "The next one goes out", ""),
        ("skipped", "no_mail", "Asked for no mail", ""),
        ("cancelled", "cancelled", "The files stay given", ""),
    ],
)
def test_each_way_of_not_arriving_is_listed_with_its_reason_and_what_can_be_done(
    studio: Client, sent: Message, state: str, reason: str, words: str, action: str
) -> None:
    lose(sent, 1, state, reason)
    page = look(studio, sent)
    assert "p1@x.example" in page
    assert "p0@x.example" not in page
    assert words in page
    assert action in page
    assert ("New address" in page) == (state in {"failed", "bounced", "unknown", "suppressed"})
    assert ("Send again to all" in page) == (state in {"failed", "unknown"})
    assert "What to do" in page_of(studio, sent)


def test_an_absorbed_mail_says_in_which_it_was_told(studio: Client, sent: Message) -> None:
    teller = Delivery.objects.get(address_key="p0@x.example")
    lose(sent, 1, "skipped", "merged", told_in=teller.pk)
    assert "Told in “The dragon”" in look(studio, sent)


def test_refused_mails_go_again_to_the_ticked_or_to_all(studio: Client, sent: Message) -> None:
    mails = [lose(sent, number, "failed", "451 Later") for number in range(3)]
    assert "tick those" in resend(studio, sent, "failed")
    assert states(sent) == {"accepted": 1, "failed": 3}
    assert "1 mail goes out again" in resend(studio, sent, "failed", pick=[mails[0].pk])
    assert states(sent) == {"accepted": 1, "failed": 2, "planned": 1}
    assert "2 mails go out again" in resend(studio, sent, "failed", everybody="1")
    assert states(sent) == {"accepted": 1, "planned": 3}
    # The second press of a double click.
    resend(studio, sent, "failed", everybody="1")
    assert states(sent) == {"accepted": 1, "planned": 3}


def test_what_is_in_doubt_goes_again_after_a_day_or_when_somebody_is_sure(
    studio: Client, sent: Message
) -> None:
    now = timezone.now()
    old = lose(sent, 0, "unknown", offered_at=now - timedelta(hours=25))
    young = lose(sent, 1, "unknown", offered_at=now - timedelta(hours=1))
    assert "their answer may still come" in resend(studio, sent, "unknown", pick=[young.pk])
    assert states(sent)["unknown"] == 2
    assert "1 mail goes out again" in resend(studio, sent, "unknown", everybody="1")
    old.refresh_from_db()
    assert old.state == "planned"
    assert "1 mail goes out again" in resend(studio, sent, "unknown", pick=[young.pk], sure="1")


@pytest.mark.parametrize("state", ["bounced", "held", "skipped", "complained", "accepted", "nonsense"])
def test_what_cannot_be_sent_again_is_not(studio: Client, sent: Message, state: str) -> None:
    mail = lose(sent, 1, "bounced" if state == "nonsense" else state)
    before = states(sent)
    resend(studio, sent, state, pick=[mail.pk], everybody="1", sure="1")
    assert states(sent) == before


def test_nothing_of_a_cancelled_or_recalled_message_goes_again(studio: Client, sent: Message) -> None:
    lose(sent, 1, "failed")
    Message.objects.update(state="cancelled", done_at=F("started_at"))
    assert "nothing of it is sent any more" in look(studio, sent)
    assert "nothing of it can be sent" in resend(studio, sent, "failed", everybody="1")
    assert states(sent)["failed"] == 1


def test_mails_of_another_message_are_not_touched(studio: Client, sent: Message, stranger: User) -> None:
    lose(sent, 1, "failed")
    other = factories.ReleaseFactory.create(creator=Creator.objects.get(slug="sams-shop"))
    foreign = services.start_message(other)
    assert studio.post(url("resend", sent.release_id), {"message": foreign.pk}).status_code == 404
    assert studio.post(url("resend", sent.release_id), {"message": "x" * 30}).status_code == 404


def readdress(studio: Client, mail: Delivery, address: str) -> str:
    page = url("change_address", mail.message.release_id, mail.pk)
    return studio.post(page, {"address": address}, follow=True).content.decode()


def test_a_new_address_takes_the_mail_along(studio: Client, sent: Message) -> None:
    Suppression.objects.create(address_key="p1@x.example", reason="bounce", created_at=NOW)
    mail = lose(sent, 1, "bounced", "No such user")
    page = studio.get(url("change_address", sent.release_id, mail.pk)).content.decode()
    assert "No such user" in page
    assert "the mail goes there within a minute" in readdress(studio, mail, "New@x.example")
    mail.refresh_from_db()
    assert (mail.state, mail.address_key, mail.contact.address_key) == (
        "planned",
        "new@x.example",
        "new@x.example",
    )


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("p2@x.example", "Person 2 has this address already"),
        ("nonsense", "no @"),
        ("hello@anas-forge.example", "another one"),
        ("gone@x.example", "came back before"),
        ("", "This field is required"),
    ],
)
def test_an_address_that_cannot_be_is_refused_in_words(
    studio: Client, sent: Message, address: str, words: str
) -> None:
    creator = sent.release.creator_id
    Suppression.objects.create(
        address_key="gone@x.example", reason="bounce", created_at=NOW, creator_id=creator
    )
    mail = lose(sent, 1, "failed")
    assert words in readdress(studio, mail, address)
    mail.refresh_from_db()
    assert (mail.state, mail.address_key) == ("failed", "p1@x.example")


def test_who_has_verified_the_new_address_finds_what_waited(studio: Client, sent: Message) -> None:
    user = factories.UserFactory.create(email="verified@x.example")
    readdress(studio, lose(sent, 1, "failed"), user.email)
    assert Contact.objects.get(address_key=user.email).account == user
    assert user.library.count() == 1


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_the_list_asks_the_same_for_one_and_for_three(
    sent: Message, queries_of: Callable[[str], int], state: str
) -> None:
    told = Delivery.objects.get(address_key="mia@example.org").pk
    lose(sent, 0, state, "merged", told_in=told)
    page = url("undelivered", sent.release_id)
    one = queries_of(page)
    for number in (1, 2):
        lose(sent, number, state, "merged", told_in=told)
    assert queries_of(page) == one


@pytest.mark.parametrize("value", ["", "x", "9" * 40, "-1", "\x00", "planned"])
def test_strange_questions_harm_nothing(studio: Client, sent: Message, value: str) -> None:
    lose(sent, 1, "failed")
    query = {"message": value, "state": value, "q": value, "page": value}
    assert studio.get(url("undelivered", sent.release_id), query).status_code == 200


def test_a_million_people_cost_a_row_for_each_chunk_and_no_counting_of_mails(
    sent: Message, queries_of: Callable[[str], int]
) -> None:
    page = url("release", sent.release_id)
    one = queries_of(page)
    last = sent.chunks.get()
    for number in range(1, 4):
        sent.chunks.create(
            number=number,
            after=last.until + number,
            until=last.until + number + 1,
            state="done",
            tally={"accepted": 500},
        )
    assert queries_of(page) == one

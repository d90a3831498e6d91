"""M7: complaints and bounces stop a creator until an admin has looked."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Letter, User
from groups.models import Contact, Creator, Group
from groups.services import pause_creator, resume_creator
from messaging import breakers, services
from messaging.mail import Mail
from messaging.models import Chunk, Delivery, Message
from messaging.providers import Answer, Kind
from rows.clock import db_now
from tests.factories import MembershipFactory
from tests.messaging.test_dry_run import Script
from tests.messaging.test_races import all_at_once
from tests.messaging.test_recipient_cap import chunk_to

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(db: None) -> User:
    user = User.objects.create_superuser(email="root@example.org", password=None)
    user.emailaddress_set.create(email=user.email, verified=True, primary=True)
    return user


def message_of(contact: Contact, **tally: int) -> Message:
    """A running message, so many of whose mails stand where `tally` says."""
    chunk = chunk_to([contact])
    Chunk.objects.filter(pk=chunk.pk).update(tally=tally)
    Message.objects.filter(pk=chunk.message_id).update(subject="The dragon is here")
    return Message.objects.get(pk=chunk.message_id)


@pytest.mark.parametrize(
    ("tally", "complained", "bounced", "stops"),
    [
        # Complaints: a tenth of a percent of what was offered, and three at least.
        ({"accepted": 2_999, "planned": 9_000}, 3, 0, True),
        ({"accepted": 3_001, "planned": 9_000}, 3, 0, False),
        ({"delivered": 4_000, "complained": 0}, 4, 0, True),
        ({"accepted": 12}, 2, 0, False),
        ({"accepted": 9, "complained": 3}, 3, 0, True),
        # Bounces: five percent, and five at least.
        ({"accepted": 95, "bounced": 5}, 0, 5, True),
        ({"accepted": 96, "bounced": 5}, 0, 5, False),
        ({"accepted": 4, "failed": 4}, 0, 4, False),
        ({"accepted": 50, "failed": 20, "unknown": 30, "held": 500, "skipped": 500}, 0, 5, True),
        # Together they are no third kind.
        ({"accepted": 10_000}, 9, 499, False),
        # Counted before their chunks were.
        ({}, 3, 0, True),
        ({}, 0, 5, True),
    ],
)
def test_a_message_stops_its_creator_at_either_share_and_never_for_a_few(
    contact: Contact,
    creator: Creator,
    now: datetime,
    tally: dict[str, int],
    complained: int,
    bounced: int,
    stops: bool,
) -> None:
    message = message_of(contact, **tally)
    Message.objects.update(complained=complained, bounced=bounced)
    assert breakers.check(message, now=now) == stops
    creator.refresh_from_db()
    message.refresh_from_db()
    assert (creator.paused_at, message.tripped_at) == ((now, now) if stops else (None, None))


def test_the_creator_is_told_why_it_is_logged_and_an_operator_knows(
    contact: Contact, creator: Creator, admin: User, now: datetime
) -> None:
    message = message_of(contact, accepted=2_000, bounced=200)
    assert not breakers.count_bounce(message.pk, 4, now=now)
    assert breakers.count_bounce(message.pk, 196, now=now)
    creator.refresh_from_db()
    why = "200 of 2,200 mails of “The dragon is here” came back: those addresses do not exist."
    assert creator.paused_because == why
    assert AuditEvent.objects.values_list("actor", "verb", "subject", "creator_id").get() == (
        None,
        "paused creator",
        f"anas-forge: {why}",
        creator.pk,
    )
    letter = Letter.objects.get(kind="alarm")
    assert (letter.address_key, letter.subject) == ("root@example.org", "Ana's Forge was paused")
    assert why in letter.text
    assert not Message.objects.due(now).exists()
    message = Message.objects.get()
    found = services.progress(message, now=now)
    assert found.stage == "paused"
    assert why in found.waits_because


def test_complaints_are_counted_and_said_in_their_own_words(
    contact: Contact, creator: Creator, now: datetime
) -> None:
    message = message_of(contact, accepted=1_000)
    assert [breakers.count_complaint(message.pk, 1, now=now) for _each in range(3)] == [False, False, True]
    creator.refresh_from_db()
    assert creator.paused_because == (
        "3 of the 1,000 people who were sent “The dragon is here” reported it as spam."
    )


def test_whoever_resumes_them_has_seen_that_message_and_it_stops_them_once(
    contact: Contact, creator: Creator, admin: User, now: datetime
) -> None:
    message = message_of(contact, accepted=10)
    assert breakers.count_bounce(message.pk, 5, now=now)
    assert not breakers.count_bounce(message.pk, 1, now=now)
    assert resume_creator(creator, by=admin, now=now)
    assert not breakers.count_bounce(message.pk, 1, now=now)
    creator.refresh_from_db()
    assert (creator.paused_at, creator.paused_because) == (None, "")
    assert breakers.count_bounce(message_of(contact, accepted=10).pk, 5, now=now)
    assert Letter.objects.filter(kind="alarm").count() == 2


def test_who_is_paused_already_keeps_the_reason_they_were_told(
    contact: Contact, creator: Creator, admin: User, now: datetime
) -> None:
    pause_creator(creator, "Somebody called.", by=admin, now=now)
    assert breakers.count_bounce(message_of(contact, accepted=10).pk, 5, now=now)
    creator.refresh_from_db()
    assert creator.paused_because == "Somebody called."


def test_chunks_in_work_are_counted_anew(contact: Contact, creator: Creator, now: datetime) -> None:
    message = message_of(contact, accepted=1_000)
    Chunk.objects.update(lease_until=db_now())
    Delivery.objects.update(state=Delivery.State.SENDING)
    assert breakers.count_bounce(message.pk, 5, now=now)


class Gone(Script):
    """Every second address does not exist."""

    def offer(self, mails: Sequence[Mail]) -> list[Answer]:
        answers = super().offer(mails)
        refused = Answer(Kind.REFUSED, "550 5.1.1 no such user", 550, no_such_address=True)
        places = range(len(self.taken) - len(mails), len(self.taken))
        return [refused if at % 2 else answer for at, answer in zip(places, answers, strict=True)]


def test_addresses_that_a_mail_server_does_not_know_stop_it_within_the_mails_in_flight(
    draft: Message,
    creator: Creator,
    hobbyist: Group,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    MembershipFactory.create_batch(20, group=hobbyist)
    message, way = start(confirm(draft)), Gone()
    work(way)
    # In waves of three the fifth unknown address comes in the fourth.
    assert len(way.taken) == 12
    message.refresh_from_db()
    assert (message.bounced, message.tripped_at) == (6, now)
    creator.refresh_from_db()
    assert "6 of 12 mails" in creator.paused_because


def test_the_studio_shows_why(
    contact: Contact, creator: Creator, owner: User, client_of: Any, now: datetime
) -> None:
    breakers.count_bounce(message_of(contact, accepted=10).pk, 5, now=now)
    page = client_of(owner).get(reverse("studio:home", args=[creator.slug])).content.decode()
    assert "those addresses do not exist" in page


def test_an_admin_lifts_it(
    contact: Contact, creator: Creator, admin: User, client: Client, now: datetime
) -> None:
    breakers.count_bounce(message_of(contact, accepted=10).pk, 5, now=now)
    client.force_login(admin)
    client.post(
        reverse("admin:groups_creator_changelist"), {"action": "resume", "_selected_action": [creator.pk]}
    )
    creator.refresh_from_db()
    assert creator.paused_at is None
    assert Message.objects.due(now).exists()


def test_a_message_of_a_thousand_chunks_is_judged_in_as_many_queries_as_one_of_two(
    people: list[Contact], now: datetime, django_assert_num_queries: Callable[..., Any]
) -> None:
    message = message_of(people[0], accepted=1_000)
    beyond = people[-1].pk + 1
    Chunk.objects.bulk_create(
        Chunk(
            message=message,
            number=n,
            after=beyond + n,
            until=beyond + n + 1,
            state="done",
            tally={"accepted": 900, "held": 5},
        )
        for n in range(1, 1_000)
    )
    # One that a worker has is counted by its rows: none of those above was offered yet, so its old tally is not asked.
    Chunk.objects.filter(message=message, number=0).update(lease_until=db_now())
    Delivery.objects.filter(message=message).update(state="accepted")
    Message.objects.filter(pk=message.pk).update(bounced=5)
    with django_assert_num_queries(4) as asked:
        assert not breakers.check(message, now=now)
    of_chunks = [query["sql"] for query in asked if 'FROM "messaging_chunk"' in query["sql"]]
    assert [("SUM(" in sql, '"lease_until" IS NOT NULL' in sql) for sql in of_chunks] == [
        (True, False),
        (False, True),
    ], "the database adds up what no worker has, and only the rest comes one by one"
    assert breakers._offered(message) == 1 + 999 * 900


def test_a_few_complaints_ask_nothing_of_the_chunks(
    contact: Contact, now: datetime, django_assert_num_queries: Callable[..., Any]
) -> None:
    message = message_of(contact, accepted=10)
    Message.objects.update(complained=2, bounced=4)
    with django_assert_num_queries(1):
        assert not breakers.check(message, now=now)


def test_what_goes_wrong_while_it_stops_a_creator_stops_them_the_next_time(
    contact: Contact, creator: Creator, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = message_of(contact, accepted=10)

    def raises(*arguments: object, **options: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(breakers, "alarm", raises)
        with pytest.raises(RuntimeError):
            breakers.count_bounce(message.pk, 5, now=now)
    creator.refresh_from_db()
    assert creator.paused_at is None
    assert breakers.check(message, now=now)
    creator.refresh_from_db()
    assert creator.paused_at == now


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_bounces_and_complaints_that_come_at_once_are_all_counted_and_stop_the_creator_once(
    contact: Contact, admin: User, now: datetime
) -> None:
    message = message_of(contact, accepted=10)
    ways = [breakers.count_bounce, breakers.count_complaint]
    stopped = all_at_once([lambda way=way: way(message.pk, 1, now=now) for way in ways * 8])
    message.refresh_from_db()
    assert (message.bounced, message.complained) == (8, 8)
    assert (stopped.count(True), stopped.count(False)) == (1, 15)
    assert AuditEvent.objects.filter(verb="paused creator").count() == 1
    assert Letter.objects.filter(kind="alarm").count() == 1

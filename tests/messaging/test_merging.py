"""What two messages of a creator owe one person at the same time is one mail (M5)."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest
from django.core import mail
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from distribution.services import recall_release, revoke_grant
from groups.models import Contact, Creator, Group
from messaging import services
from messaging.mail import also_of
from messaging.models import Chunk, Delivery, Message, Preference, RecentMail
from messaging.services.merging import absorb, tell_after_all
from tests.factories import (
    BundleFactory,
    ContactFactory,
    CreatorFactory,
    GroupFactory,
    MembershipFactory,
    ReleaseFactory,
)
from tests.messaging.test_races import all_at_once

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
Drafted = Callable[..., Message]


@pytest.fixture
def drafted(hobbyist: Group) -> Drafted:
    def draft(title: str, *, group: Group = hobbyist) -> Message:
        bundle = BundleFactory.create(creator=group.creator, title=f"{title} bundle")
        release = ReleaseFactory.create(creator=group.creator, title=title, bundles=[bundle], groups=[group])
        message = services.start_message(release)
        message.subject, message.body = f"About {title}", f"The words about {title}."
        message.save()
        return message

    return draft


@pytest.fixture
def two(
    drafted: Drafted, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> tuple[Message, Message]:
    """Two messages to the same five people, both running, nothing offered yet."""
    first, second = start(confirm(drafted("Older"))), start(confirm(drafted("Newer")))
    return first, second


def states(message: Message) -> list[tuple[str, str]]:
    return sorted(set(Delivery.objects.filter(message=message).values_list("state", "reason")))


def opened(message: Message, *, at: datetime) -> Chunk:
    """The chunk of `message`, opened although the other message's would be first."""
    Chunk.objects.exclude(message=message).update(not_before=at + HOUR)
    chunk = services.open_chunk(owner="x", now=at)
    assert chunk is not None
    assert chunk.message_id == message.pk
    Chunk.objects.exclude(message=message).update(not_before=None)
    return chunk


def test_each_person_gets_one_mail_that_tells_of_both(
    two: tuple[Message, Message], people: list[Contact], work: Callable[..., None]
) -> None:
    first, second = two
    work()
    assert sorted(sent.to[0] for sent in mail.outbox) == sorted(contact.address_key for contact in people)
    for sent in mail.outbox:
        assert sent.subject == "About Older"
        for part in (sent.body, sent.alternatives[0][0]):
            assert "The words about Older." in part
            assert "Also from Ana" in part
            assert "Newer bundle (" in part
    assert states(first) == [("accepted", "")]
    assert states(second) == [("skipped", "merged")]
    assert set(Delivery.objects.filter(message=second).values_list("told_in", flat=True)) == set(
        Delivery.objects.filter(message=first).values_list("pk", flat=True)
    )
    second.refresh_from_db()
    assert second.state == Message.State.DONE
    assert [chunk.tally for chunk in second.chunks.all()] == [{"skipped": 5}]


def test_each_link_redeems_its_own_release(
    two: tuple[Message, Message], people: list[Contact], work: Callable[..., None]
) -> None:
    work()
    sent = next(sent for sent in mail.outbox if sent.to == [people[0].address_key])
    tickets = {line for line in str(sent.body).split() if "/redeem/" in line}
    assert len(tickets) == 2


def test_what_was_absorbed_is_charged_to_nobody(
    two: tuple[Message, Message], people: list[Contact], now: datetime
) -> None:
    first, second = two
    opened(first, at=now)
    Chunk.objects.filter(message=first).update(lease_until=None)
    # Each was charged for the first; now they are absorbed by the second.
    Delivery.objects.filter(message=second).update(state="planned", reason="", told_in=None)
    opened(second, at=now)
    assert states(first) == [("skipped", "merged")]
    charged = Delivery.objects.filter(charged_at__isnull=False)
    assert set(charged.values_list("message", flat=True)) == {second.pk}
    assert {len(row.times) for row in RecentMail.objects.exclude(times="")} == {14}


def test_opening_a_chunk_twice_absorbs_once(two: tuple[Message, Message], now: datetime) -> None:
    first, second = two
    chunk = opened(first, at=now)
    before = list(Delivery.objects.order_by("pk").values())
    with transaction.atomic():
        assert not absorb(chunk, creator_id=first.release.creator_id, now=now)
    assert list(Delivery.objects.order_by("pk").values()) == before
    assert states(second) == [("skipped", "merged")]


def test_whoever_is_not_written_to_absorbs_nothing(
    two: tuple[Message, Message], people: list[Contact], work: Callable[..., None], now: datetime
) -> None:
    first, second = two
    people[0].grants.filter(release=first.release).update(revoked_at=now)
    opened(first, at=now)
    theirs = Delivery.objects.get(message=second, contact=people[0])
    assert (theirs.state, theirs.told_in) == (Delivery.State.PLANNED, None)
    assert Delivery.objects.filter(message=second, reason="merged").count() == 4


def test_a_mail_that_was_offered_before_stays_what_it_was(
    two: tuple[Message, Message], now: datetime
) -> None:
    first, second = two
    Delivery.objects.filter(message=first).update(attempts=1)
    opened(first, at=now)
    assert states(second) == [("planned", "")]


def test_what_is_not_due_paused_cancelled_or_another_creators_is_not_absorbed(
    two: tuple[Message, Message], drafted: Drafted, owner: User, now: datetime
) -> None:
    first, second = two
    Message.objects.filter(pk=second.pk).update(due_at=now + HOUR)
    chunk = opened(first, at=now)
    assert states(second) == [("planned", "")]
    Message.objects.filter(pk=second.pk).update(due_at=now)
    services.pause_message(second, by=owner, now=now)
    Delivery.objects.filter(message=second).update(state="held")
    Message.objects.filter(pk=second.pk).update(held=5)
    absorb(chunk, creator_id=first.release.creator_id, now=now)
    assert states(second) == [("held", "")]
    services.resume_message(second, by=owner, now=now)
    other = CreatorFactory.create()
    absorb(chunk, creator_id=other.pk, now=now)
    assert states(second) == [("held", "")]
    absorb(chunk, creator_id=first.release.creator_id, now=now)
    assert states(second) == [("skipped", "merged")]


def test_what_was_taken_back_is_not_told_anywhere(
    two: tuple[Message, Message], people: list[Contact], owner: User, now: datetime, work: Callable[..., None]
) -> None:
    first, second = two
    grant = people[0].grants.get(release=second.release)
    revoke_grant(grant, by=owner, now=now)
    opened(first, at=now)
    assert Delivery.objects.get(message=second, contact=people[0]).state == Delivery.State.PLANNED
    # And what is taken back after it was absorbed is left out of the mail.
    revoke_grant(people[1].grants.get(release=second.release), by=owner, now=now)
    tellers = Delivery.objects.filter(message=first)
    told = also_of(tellers)
    assert set(told) == set(tellers.exclude(contact__in=people[:2]).values_list("pk", flat=True))
    recall_release(second.release, because="Wrong file", by=owner, now=now)
    assert also_of(tellers) == {}


def test_what_an_absorbed_mail_told_of_is_told_where_it_is_told(
    two: tuple[Message, Message],
    drafted: Drafted,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    first, second = two
    opened(second, at=now)
    Chunk.objects.filter(message=second).update(lease_until=None)
    third = drafted("Third", group=GroupFactory.create(creator=first.release.creator))
    MembershipFactory.create(group=third.release.audience_rows.get().group, contact=people[0])
    start(confirm(third))
    opened(third, at=now)
    teller = Delivery.objects.get(message=third)
    assert set(
        Delivery.objects.filter(contact=people[0]).exclude(pk=teller.pk).values_list("told_in", flat=True)
    ) == {teller.pk}
    [items] = also_of([teller]).values()
    assert [item.title for item in items] == ["Newer", "Older"]


def test_two_mails_about_one_release_tell_of_it_once(
    two: tuple[Message, Message], people: list[Contact], now: datetime
) -> None:
    first, _second = two
    opened(first, at=now)
    teller = Delivery.objects.get(message=first, contact=people[0])
    for message in two:
        # Its reminder was absorbed too.
        sent = {"state": "done", "due_at": now, "planned_at": now, "started_at": now, "done_at": now}
        reminder = Message.objects.create(
            release=message.release, kind="reminder", request_id=uuid4(), **sent
        )
        Delivery.objects.create(
            message=reminder,
            grant=people[0].grants.get(release=message.release),
            contact=people[0],
            address_key=people[0].address_key,
            state="skipped",
            reason="merged",
            told_in=teller.pk,
        )
    assert [item.title for item in also_of([teller])[teller.pk]] == ["Newer"]


def test_the_questions_do_not_grow_with_the_people(
    two: tuple[Message, Message], now: datetime, django_assert_num_queries: Callable[..., object]
) -> None:
    first, _second = two
    opened(first, at=now)
    tellers = list(Delivery.objects.filter(message=first))
    asked = []
    for some in (tellers[:1], tellers):
        with CaptureQueriesContext(connection) as questions:
            also_of(some)
        asked.append(len(questions))
    assert asked[0] == asked[1]
    with django_assert_num_queries(0):  # type: ignore[attr-defined]
        assert also_of([]) == {}


def test_who_is_told_in_a_mail_that_was_taken_back_waits_for_the_digest(
    two: tuple[Message, Message], people: list[Contact], owner: User, now: datetime
) -> None:
    first, second = two
    opened(first, at=now)
    Chunk.objects.update(lease_until=None)
    services.cancel_message(first, by=owner, now=now)
    services.clear_cancelled(first.pk, now=now)
    assert states(first) == [("cancelled", "cancelled")]
    assert states(second) == [("held", "")]
    assert set(Delivery.objects.filter(message=second).values_list("told_in", flat=True)) == {None}
    second.refresh_from_db()
    assert second.held == 5
    # Twice: nothing changes.
    assert not tell_after_all(Delivery.objects.filter(message=first))


def test_a_mail_that_is_dropped_when_its_chunk_opens_again_tells_nobodys_part_away(
    two: tuple[Message, Message], people: list[Contact], owner: User, now: datetime
) -> None:
    first, second = two
    opened(first, at=now)
    Chunk.objects.update(lease_until=None)
    revoke_grant(people[0].grants.get(release=first.release), by=owner, now=now)
    opened(first, at=now)
    assert Delivery.objects.get(message=first, contact=people[0]).reason == "revoked"
    theirs = Delivery.objects.get(message=second, contact=people[0])
    assert (theirs.state, theirs.told_in) == (Delivery.State.HELD, None)
    assert Delivery.objects.filter(message=second, reason="merged").count() == 4
    second.refresh_from_db()
    assert second.held == 1


def test_who_is_held_is_told_in_the_next_mail(
    two: tuple[Message, Message], people: list[Contact], work: Callable[..., None], now: datetime
) -> None:
    first, second = two
    services.set_preference(people[0], Preference.Choice.WEEKLY, now=now)
    services.set_preference(people[0], Preference.Choice.EACH, now=now)
    assert Delivery.objects.filter(contact=people[0], state="held").count() == 2
    Delivery.objects.filter(contact=people[0], message=first).update(state="planned", reason="")
    work()
    assert len(mail.outbox) == 5
    second.refresh_from_db()
    assert second.held == 0


def test_a_mail_that_told_of_others_and_failed_is_found_from_them(
    two: tuple[Message, Message], people: list[Contact], now: datetime
) -> None:
    first, second = two
    opened(first, at=now)
    Delivery.objects.filter(message=first, contact=people[0]).update(state="failed", reason="no such user")
    theirs = Delivery.objects.get(message=second, contact=people[0])
    assert theirs.told_in is not None
    assert Delivery.objects.get(pk=theirs.told_in).said == "no such user"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_messages_opened_at_once_are_one_mail_for_who_is_in_both(
    creator: Creator,
    drafted: Drafted,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    for turn in range(6):
        groups = [GroupFactory.create(creator=creator) for _each in range(2)]
        both = [ContactFactory.create(creator=creator) for _n in range(6)]
        people = {*both, *(ContactFactory.create(creator=creator) for _n in range(4))}
        for at, group in enumerate(groups):
            for contact in both if at else people:
                MembershipFactory.create(group=group, contact=contact)
        messages = [
            start(confirm(drafted(f"No. {turn} {at}", group=group))) for at, group in enumerate(groups)
        ]
        results = all_at_once([partial(services.open_chunk, owner="x", now=now)] * 2)
        assert all(isinstance(result, Chunk) for result in results), results
        rows = Delivery.objects.filter(message__in=messages)
        for contact in people:
            theirs = rows.filter(contact=contact)
            assert theirs.filter(state="planned").count() == 1, list(theirs.values())
            assert theirs.filter(reason="merged").count() == theirs.count() - 1
        for absorbed in rows.filter(reason="merged"):
            assert rows.get(pk=absorbed.told_in).state == "planned"
        Chunk.objects.update(state="done")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_who_is_being_written_to_at_that_instant_is_left_alone(
    two: tuple[Message, Message], people: list[Contact], now: datetime
) -> None:
    first, second = two
    taken, let_go = threading.Event(), threading.Event()
    waited: list[bool] = []

    def other_worker() -> None:
        with transaction.atomic():
            Delivery.objects.filter(message=second, contact=people[0]).update(state="sending")
            taken.set()
            waited.append(let_go.wait(10))
        connection.close()

    worker = threading.Thread(target=other_worker)
    worker.start()
    taken.wait(10)
    opened_at_once = services.open_chunk(owner="x", now=now)
    let_go.set()
    worker.join()
    # It did not wait for the other's commit.
    assert waited == [True]
    assert opened_at_once is not None
    assert opened_at_once.message_id == first.pk
    assert Delivery.objects.get(message=second, contact=people[0]).state == "sending"
    assert Delivery.objects.filter(message=second, reason="merged").count() == 4

"""M4: no address gets more than 3 mails in any 7 days from one creator, and 10 from everybody here."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from groups.models import Contact, Creator
from messaging import recipient_cap, services
from messaging.models import Chunk, Delivery, Message, Preference, RecentMail
from tests.factories import LONG_AGO, ContactFactory, CreatorFactory, ReleaseFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
WEEK = 7 * DAY
INSTANT = timedelta(milliseconds=1)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def chunk_to(contacts: Sequence[Contact], *, kind: str = Message.Kind.ANNOUNCEMENT) -> Chunk:
    """A running message of the contacts' creator to each of them, planned, in one chunk."""
    creator = contacts[0].creator
    release = ReleaseFactory.create(creator=creator, state="published", as_of=LONG_AGO, publish_at=LONG_AGO)
    message = Message.objects.create(
        release=release,
        kind=kind,
        state=Message.State.RUNNING,
        request_id=uuid4(),
        due_at=LONG_AGO,
        planned_at=LONG_AGO,
        started_at=LONG_AGO,
    )
    Delivery.objects.bulk_create(
        Delivery(
            message=message,
            grant_id=0,
            contact=contact,
            address_key=contact.address_key,
            state=Delivery.State.PLANNED,
        )
        for contact in contacts
    )
    ids = [contact.pk for contact in contacts]
    return Chunk.objects.create(message=message, number=0, after=min(ids) - 1, until=max(ids))


def charge(chunk: Chunk, now: datetime) -> None:
    recipient_cap.charge(chunk, creator_id=chunk.message.release.creator_id, now=now)


def states(chunk: Chunk) -> list[tuple[str, str]]:
    return list(Delivery.objects.of(chunk).values_list("state", "reason"))


def mailed(contact: Contact, at: datetime) -> bool:
    """Whether one more message of the contact's creator would be offered to them at `at`; it is charged if so."""
    chunk = chunk_to([contact])
    charge(chunk, at)
    return states(chunk) == [("planned", "")]


def elsewhere(contact: Contact) -> Contact:
    """The same address as another creator knows it."""
    creator = CreatorFactory.create()
    return ContactFactory.create(creator=creator, address_key=contact.address_key)


def test_the_fourth_mail_in_seven_days_waits_for_the_digest(contact: Contact, now: datetime) -> None:
    assert [mailed(contact, now + day * DAY) for day in (0, 1, 2)] == [True] * 3
    chunk = chunk_to([contact])
    charge(chunk, now + WEEK - INSTANT)
    assert states(chunk) == [("held", "cap")]
    assert not Delivery.objects.of(chunk).filter(charged_at__isnull=False).exists()
    assert mailed(contact, now + WEEK)
    assert not mailed(contact, now + WEEK)


def test_a_digest_over_the_cap_is_left_to_the_next_one(contact: Contact, now: datetime) -> None:
    for _each in range(3):
        mailed(contact, now)
    chunk = chunk_to([contact], kind=Message.Kind.DIGEST)
    charge(chunk, now)
    assert states(chunk) == [("skipped", "cap")]


def test_the_eleventh_mail_of_everybody_here_waits_and_leaves_its_creators_own_room_alone(
    contact: Contact, now: datetime
) -> None:
    others = [elsewhere(contact) for _each in range(3)]
    assert all(mailed(other, now) for other in others for _each in range(3))
    fourth = elsewhere(contact)
    assert mailed(fourth, now)
    assert [mailed(fourth, now + DAY), mailed(contact, now + DAY)] == [False, False]
    # Not even the two that were refused count: three may go, once the others' are a week old.
    assert [mailed(contact, now + WEEK) for _each in range(4)] == [True, True, True, False]


def test_only_who_is_over_it_waits(creator: Creator, now: datetime) -> None:
    contacts = ContactFactory.create_batch(5, creator=creator)
    for _each in range(3):
        mailed(contacts[1], now)
    chunk = chunk_to(contacts)
    charge(chunk, now)
    assert [state for state, _reason in states(chunk)] == ["planned", "held", "planned", "planned", "planned"]
    assert set(Delivery.objects.of(chunk).values_list("charged_at", flat=True)) == {now, None}


def test_a_chunk_opened_again_and_again_charges_once_and_its_mails_count_when_they_go(
    contact: Contact, now: datetime
) -> None:
    chunk = chunk_to([contact])
    for hours in range(5):
        charge(chunk, now + timedelta(hours=hours))
    assert states(chunk) == [("planned", "")]
    assert Delivery.objects.get().charged_at == now + timedelta(hours=4)
    assert mailed(contact, now + timedelta(hours=4))
    assert mailed(contact, now + DAY)
    # The first opening was a week ago, but the mail went four hours later.
    assert not mailed(contact, now + WEEK)
    assert mailed(contact, now + WEEK + timedelta(hours=4))


def test_a_mail_that_waited_until_its_charge_had_lapsed_is_judged_anew(
    contact: Contact, now: datetime
) -> None:
    late = chunk_to([contact])
    charge(late, now)
    assert [mailed(contact, now + WEEK) for _each in range(3)] == [True] * 3
    charge(late, now + WEEK)
    assert states(late) == [("held", "cap")]
    assert Delivery.objects.of(late).get().charged_at is None


def test_a_mail_that_has_to_wait_is_not_charged_yet(contact: Contact, now: datetime) -> None:
    chunk = chunk_to([contact])
    Delivery.objects.update(not_before=now + DAY)
    charge(chunk, now)
    assert Delivery.objects.get().charged_at is None
    assert not RecentMail.objects.exists()
    charge(chunk, now + DAY)
    assert Delivery.objects.get().charged_at == now + DAY


def test_what_was_sent_already_is_not_charged_again(contact: Contact, now: datetime) -> None:
    chunk = chunk_to([contact])
    charge(chunk, now)
    Delivery.objects.update(state=Delivery.State.ACCEPTED)
    charge(chunk, now + DAY)
    assert Delivery.objects.get().charged_at == now
    assert {len(row.times) for row in RecentMail.objects.all()} == {14}


def test_what_is_given_back_makes_room_for_one_more_and_only_one(contact: Contact, now: datetime) -> None:
    chunks = [chunk_to([contact]) for _each in range(3)]
    for chunk in chunks:
        charge(chunk, now)
    assert not mailed(contact, now)
    for _twice in range(2):
        recipient_cap.give_back(Delivery.objects.of(chunks[1]), creator_id=contact.creator_id)
    assert [mailed(contact, now), mailed(contact, now)] == [True, False]


def test_two_messages_charged_at_one_instant_are_both_given_back(contact: Contact, now: datetime) -> None:
    for _each in range(3):
        mailed(contact, now)
    cancelled = Delivery.objects.filter(message__in=Message.objects.order_by("pk")[1:])
    recipient_cap.give_back(cancelled, creator_id=contact.creator_id)
    assert {(row.sender, row.times.count(" ")) for row in RecentMail.objects.all()} == {
        (0, 1),
        (contact.creator_id, 1),
    }


def test_a_charge_from_the_middle_can_be_given_back(contact: Contact, now: datetime) -> None:
    chunks = [chunk_to([contact]) for _each in range(3)]
    for day, chunk in enumerate(chunks):
        charge(chunk, now + day * DAY)
    before = RecentMail.objects.get(sender=0).times
    recipient_cap.give_back(Delivery.objects.of(chunks[1]), creator_id=contact.creator_id)
    assert RecentMail.objects.get(sender=0).times == before[:14] + before[28:]


def test_a_lower_cap_counts_what_was_sent_under_the_higher_one(
    contact: Contact, now: datetime, settings: object
) -> None:
    assert mailed(contact, now)
    assert mailed(contact, now + DAY)
    settings.RECIPIENT_CAP_CREATOR = 1  # type: ignore[attr-defined]
    assert not mailed(contact, now + WEEK)
    assert mailed(contact, now + WEEK + DAY)


def test_an_open_chunk_is_charged_and_who_is_over_the_cap_gets_no_mail(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    mailoutbox: list[object],
    now: datetime,
) -> None:
    for _each in range(3):
        mailed(people[0], now)
    Message.objects.exclude(pk=draft.pk).update(state=Message.State.CANCELLED, done_at=now)
    message = start(confirm(draft))
    work()
    message.refresh_from_db()
    assert (message.state, message.held, len(mailoutbox)) == (Message.State.DONE, 1, 4)
    assert Delivery.objects.filter(message=message, charged_at=now).count() == 4


def fullest(times: Iterable[datetime]) -> int:
    """The most of `times` that lie within one window of less than 7 days."""
    times = list(times)
    return max((sum(begin <= time < begin + WEEK for time in times) for begin in times), default=0)


minutes = st.integers(min_value=0, max_value=4 * 7 * 24 * 60)


class NoWindow(TestCase):
    """Whatever is charged when: the sums are done again here, by counting."""

    def setUp(self) -> None:
        self.contact = ContactFactory.create(address_key="mia@example.org")

    @settings(max_examples=60, deadline=None)
    @given(st.lists(minutes, max_size=14))
    def test_no_window_holds_more_than_the_cap_whatever_the_workers_clocks_say(self, when: list[int]) -> None:
        RecentMail.objects.all().delete()
        times = [NOW + timedelta(minutes=minute) for minute in when]
        sent = [at for at in times if mailed(self.contact, at)]
        assert fullest(sent) <= 3

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(minutes, st.booleans()), max_size=14))
    def test_in_order_exactly_those_are_refused_that_would_overfill_a_window(
        self, when: list[tuple[int, bool]]
    ) -> None:
        RecentMail.objects.all().delete()
        sent: list[datetime] = []
        for minute, cancelled in sorted(when):
            at = NOW + timedelta(minutes=minute)
            chunk = chunk_to([self.contact])
            person = Contact.objects.filter(pk=self.contact.pk)
            full = person.filter(recipient_cap.capped("address_key", self.contact.creator_id, at)).exists()
            charge(chunk, at)
            allowed = states(chunk) == [("planned", "")]
            assert allowed == (fullest([*sent, at]) <= 3) == (not full)
            if allowed and cancelled:
                recipient_cap.give_back(Delivery.objects.of(chunk), creator_id=self.contact.creator_id)
            elif allowed:
                sent.append(at)


def test_a_row_says_whose_it_is(contact: Contact, now: datetime) -> None:
    mailed(contact, now)
    assert [str(row) for row in RecentMail.objects.order_by("sender")] == [
        "mia@example.org from anybody",
        f"mia@example.org from {contact.creator_id}",
    ]


def test_who_asked_for_no_mail_is_not_charged(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    start(confirm(draft))
    services.set_preference(people[0], Preference.Choice.NOTHING, now=now)
    work()
    assert not RecentMail.objects.filter(address_key=people[0].address_key).exists()

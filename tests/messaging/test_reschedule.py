"""Update or fail: a scheduled message stands at another time with all that belongs to it, or nothing has changed."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from accounts.models import AuditEvent, User
from distribution.models import Release
from distribution.services import AlreadyGiving, fan_out_grants
from groups.models import Contact, Group
from messaging import services, throttle
from messaging.models import Message, SendSlot
from messaging.services import ConfirmRefused, NotReady, TooSoon, reschedule_message
from messaging.services.refused import TooEarly
from tests.factories import ReleaseFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def scheduled(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> Message:
    return confirm(draft, due_at=now + DAY)


def stands_at(message: Message) -> set[datetime | None]:
    """Where the message, its release and its slots stand: one time, if all is well."""
    message = Message.objects.select_related("release").get(pk=message.pk)
    slots = SendSlot.objects.filter(message=message, released_at=None)
    return {message.due_at, message.release.publish_at, *slots.values_list("at", flat=True)}


def test_everything_that_belongs_to_it_moves(scheduled: Message, owner: User, now: datetime) -> None:
    for _twice in range(2):
        reschedule_message(scheduled, due_at=now + 5 * DAY, by=owner, now=now)
    assert stands_at(scheduled) == {now + 5 * DAY}
    assert SendSlot.objects.count() == 1
    assert AuditEvent.objects.filter(verb="rescheduled message", actor=owner).count() == 2


def test_a_time_in_the_past_means_now(scheduled: Message, owner: User, now: datetime) -> None:
    reschedule_message(scheduled, due_at=now - DAY, by=owner, now=now)
    assert stands_at(scheduled) == {now}


def test_a_time_at_which_a_group_has_had_its_messages_is_refused_with_the_next_one(
    scheduled: Message, hobbyist: Group, owner: User, now: datetime
) -> None:
    for _each in range(2):
        other = Message.objects.create(release=ReleaseFactory.create(creator=hobbyist.creator))
        throttle.charge(other, [hobbyist], at=now + 20 * DAY, now=now)
    with pytest.raises(TooSoon) as refused:
        reschedule_message(scheduled, due_at=now + 18 * DAY, by=owner, now=now)
    assert refused.value.next_at == now + 27 * DAY
    assert stands_at(scheduled) == {now + DAY}
    assert not AuditEvent.objects.filter(verb="rescheduled message").exists()
    reschedule_message(scheduled, due_at=refused.value.next_at, by=owner, now=now)
    assert stands_at(scheduled) == {now + 27 * DAY}


def test_its_own_slot_does_not_stand_in_its_way(
    scheduled: Message, hobbyist: Group, owner: User, now: datetime
) -> None:
    other = Message.objects.create(release=ReleaseFactory.create(creator=hobbyist.creator))
    throttle.charge(other, [hobbyist], at=now + DAY, now=now)
    reschedule_message(scheduled, due_at=now + 2 * DAY, by=owner, now=now)
    assert stands_at(scheduled) == {now + 2 * DAY}


def test_a_time_too_far_away_is_refused(scheduled: Message, owner: User, now: datetime) -> None:
    with pytest.raises(NotReady, match="twelve months"):
        reschedule_message(scheduled, due_at=now + 400 * DAY, by=owner, now=now)
    assert stands_at(scheduled) == {now + DAY}


def test_a_draft_and_what_is_being_sent_have_no_time_to_move(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    owner: User,
    now: datetime,
) -> None:
    with pytest.raises(ConfirmRefused, match="nothing to move"):
        reschedule_message(draft, due_at=now + DAY, by=owner, now=now)
    message = start(confirm(draft))
    with pytest.raises(ConfirmRefused, match="nothing to move"):
        reschedule_message(message, due_at=now + DAY, by=owner, now=now)
    assert stands_at(message) == {now}


def test_what_is_being_given_keeps_its_time(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], owner: User, now: datetime
) -> None:
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)
    with pytest.raises(AlreadyGiving, match="cannot be changed any more"):
        reschedule_message(message, due_at=now + DAY, by=owner, now=now)
    assert stands_at(message) == {now}


def test_a_moved_release_is_not_given_before_its_new_time(
    scheduled: Message, owner: User, now: datetime
) -> None:
    reschedule_message(scheduled, due_at=now + 3 * DAY, by=owner, now=now)
    assert not fan_out_grants(scheduled.release_id, now=now + 2 * DAY)
    assert fan_out_grants(scheduled.release_id, now=now + 3 * DAY)
    assert Release.objects.get().as_of == now + 3 * DAY


def test_a_reminder_moves_without_its_release_and_not_before_three_days(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    owner: User,
    now: datetime,
) -> None:
    release = start(confirm(draft)).release
    work()
    reminder = services.start_reminder(release, now=now)
    reminder = confirm(reminder, due_at=now + 5 * DAY, at=now)
    with pytest.raises(TooEarly):
        reschedule_message(reminder, due_at=now + 2 * DAY, by=owner, now=now)
    reschedule_message(reminder, due_at=now + 4 * DAY, by=owner, now=now)
    reminder.refresh_from_db()
    release.refresh_from_db()
    assert (reminder.due_at, release.publish_at) == (now + 4 * DAY, now)

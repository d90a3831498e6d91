"""What should move and does not is told of, once; what is not meant to move is left in peace."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings

from accounts.models import Letter, User
from distribution.models import Release
from distribution.services import recall_release
from groups.models import Contact
from groups.services import pause_creator
from messaging import gate, services
from messaging.mail import Mailing
from messaging.models import Chunk, Message
from messaging.providers import NotOpen
from rows.clock import db_now
from tests.messaging.test_chunks import Script

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def operator(settings: LazySettings) -> None:
    settings.ALARM_TO = ["ops@site.example"]


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


def alarms() -> list[str]:
    return list(Letter.objects.filter(kind="alarm").order_by("pk").values_list("text", flat=True))


def stalled(message: Message) -> bool:
    message.refresh_from_db()
    return message.stalled_at is not None


def test_a_message_that_nobody_works_on_for_ten_minutes_is_told_of_once_in_words_and_numbers(
    message: Message, now: datetime
) -> None:
    assert services.watch(now + 9 * MINUTE) == []
    assert services.watch(now + 10 * MINUTE) == [message.pk]
    assert services.watch(now + 11 * MINUTE) == []
    (text,) = alarms()
    assert "“November”" in text
    assert "5 mails" in text
    assert stalled(message)
    assert "Nothing of it has moved" in services.progress(message, now=now + 11 * MINUTE).waits_because


def test_what_moves_again_loses_its_mark_and_is_told_of_anew_when_it_stands_again(
    message: Message, now: datetime, work: Callable[..., None]
) -> None:
    services.watch(now + 10 * MINUTE)
    work(Script([NotOpen("away")], wave=1), at=now + 11 * MINUTE)
    # Opened and let go with nothing offered is no progress.
    assert stalled(message)
    later = now + 20 * MINUTE
    chunk = services.open_chunk(owner="x", now=later)
    assert chunk is not None
    services.send_chunk(
        chunk,
        Mailing(message),
        Script(wave=2),
        clock=lambda: later,
        stop=iter([False, True]).__next__,
    )
    assert not stalled(message)
    assert services.progress(message, now=later).waits_because == ""
    assert services.watch(later + 9 * MINUTE) == []
    assert services.watch(later + 11 * MINUTE) == [message.pk]
    assert len(alarms()) == 2


def test_a_mail_system_that_is_away_for_ten_minutes_is_a_standstill(
    message: Message, now: datetime, work: Callable[..., None]
) -> None:
    for minute in range(0, 12, 2):
        work(Script(closed=NotOpen("The mail server is away.")), at=now + minute * MINUTE)
        services.watch(now + minute * MINUTE)
    (text,) = alarms()
    assert "The mail server is away." in text


def test_a_message_that_somebody_works_on_is_left_in_peace(message: Message, now: datetime) -> None:
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    assert services.watch(now + 60 * MINUTE) == []
    Chunk.objects.update(lease_until=db_now() - MINUTE)
    assert services.watch(now + 61 * MINUTE) == [message.pk]


@pytest.mark.parametrize("reason", ["creator paused", "gate locked", "long wait", "backoff"])
def test_what_is_not_meant_to_move_is_no_standstill_and_has_its_minutes_when_it_is(
    message: Message, owner: User, now: datetime, reason: str
) -> None:
    until = now + timedelta(hours=1)
    if reason == "creator paused":
        pause_creator(message.release.creator, by=owner, now=now)
    elif reason == "gate locked":
        gate.lock("Restored.", now)
    elif reason == "long wait":
        Message.objects.update(due_at=until)
    else:
        Chunk.objects.update(not_before=until)
    at = now
    while at < until:
        assert services.watch(at) == []
        at += MINUTE
    assert not stalled(message)
    message.release.creator.__class__.objects.update(paused_at=None)
    gate.adopt(until)
    assert services.watch(until + 3 * MINUTE) == []
    assert services.watch(until + 10 * MINUTE) == [message.pk]


def test_a_mark_goes_with_what_it_was_for(message: Message, owner: User, now: datetime) -> None:
    services.watch(now + 10 * MINUTE)
    services.pause_message(message, by=owner, now=now + 11 * MINUTE)
    services.watch(now + 12 * MINUTE)
    assert not stalled(message)


def test_a_message_that_is_due_and_not_begun_is_told_of_and_one_that_is_scheduled_is_not(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft, due_at=now + timedelta(hours=1))
    assert services.watch(now + timedelta(minutes=69)) == []
    Release.objects.update(lease_until=db_now() + MINUTE)
    assert services.watch(now + timedelta(minutes=70)) == []
    Release.objects.update(lease_until=None)
    Message.objects.update(lease_until=db_now() + MINUTE)
    assert services.watch(now + timedelta(minutes=70)) == []
    Message.objects.update(lease_until=db_now() - MINUTE)
    assert services.watch(now + timedelta(minutes=70)) == [message.pk]
    # The message speaks for its release.
    assert len(alarms()) == 1


def test_a_release_without_a_message_that_nobody_gives_is_told_of_once(
    release: Release, people: list[Contact], now: datetime
) -> None:
    Release.objects.update(
        state="granting", publish_at=now, as_of=now, granted=3, lease_until=db_now() + MINUTE
    )
    assert services.watch(now + 10 * MINUTE) == []
    Release.objects.update(lease_until=db_now() - 11 * MINUTE)
    services.watch(now + 9 * MINUTE)
    assert alarms() == []
    services.watch(now + 10 * MINUTE)
    services.watch(now + 11 * MINUTE)
    (text,) = alarms()
    assert "3 people have it" in text


def test_a_recall_that_nobody_goes_on_with_is_told_of_once(
    message: Message, owner: User, now: datetime
) -> None:
    release = message.release
    recall_release(release, because="It broke.", by=owner, now=now)
    services.watch(now + 9 * MINUTE)
    assert told_of_recalls() == []
    for minute in (11, 12):
        services.watch(now + minute * MINUTE)
    assert len(told_of_recalls()) == 1
    assert f"Release {release.pk}" in told_of_recalls()[0]
    Release.objects.update(cursor=1, lease_until=db_now() + MINUTE)
    services.watch(now + 13 * MINUTE)
    assert len(told_of_recalls()) == 1, "somebody works on it"


def told_of_recalls() -> list[str]:
    return [text for text in alarms() if "in libraries still" in text]

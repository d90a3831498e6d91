"""After a restore: what may have been sent since is not sent again by itself, and everything else goes on."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import AuditEvent, User
from distribution.models import Release
from groups.models import Contact, Creator, Group
from messaging import gate, services
from messaging.mail import Mailing, message_id_of
from messaging.models import Delivery, Gate, Message
from messaging.services import NotLocked
from messaging.services.chain import link
from messaging.services.settle import settle_by_log
from messaging.services.tallies import recount
from tests.factories import BundleFactory, ReleaseFactory
from tests.messaging.test_chunks import Script, states

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


@pytest.fixture
def another(creator: Creator, hobbyist: Group, owner: User, now: datetime) -> Callable[[datetime], Message]:
    def confirmed(due_at: datetime) -> Message:
        release: Release = ReleaseFactory.create(
            creator=creator, title="Later", bundles=[BundleFactory.create(creator=creator)], groups=[hobbyist]
        )
        message = services.start_message(release)
        message.subject = "Later"
        message.save()
        return services.confirm_message(message, request_id=uuid4(), due_at=due_at, by=owner, now=now)

    return confirmed


def begin(message: Message, now: datetime) -> None:
    """Two of five are out."""
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    stop = iter([False, True]).__next__
    services.send_chunk(chunk, Mailing(message), Script(wave=2), clock=lambda: now, stop=stop)


def state_of(message: Message) -> str:
    return Message.objects.values_list("state", flat=True).get(pk=message.pk)


def test_what_was_not_offered_yet_is_in_doubt_by_name_and_is_sent_only_when_a_person_says_so(
    message: Message, owner: User, now: datetime, work: Callable[..., None]
) -> None:
    begin(message, now)
    gate.lock("Restored.", now)
    found = services.unlock_sending(by=owner, now=now)
    assert (found.started, found.mails) == (1, 3)
    assert states() == ["accepted"] * 2 + ["unknown"] * 3
    assert set(Delivery.objects.filter(state="unknown").values_list("reason", flat=True)) == {"restored"}
    assert state_of(message) == Message.State.DONE
    assert services.progress(message, now=now).counts == {"accepted": 2, "unknown": 3}
    event = AuditEvent.objects.get(verb="unlock sending")
    assert event.actor == owner
    assert "in doubt: 3 mails" in event.subject
    way = Script()
    work(way)
    assert way.offered == []
    services.resend(services.unknown_deliveries(message), message=message, by=owner, now=now)
    work(way)
    assert len(way.offered) == 3


def test_the_relays_log_settles_what_a_restored_database_put_in_doubt(
    message: Message, now: datetime, settings: LazySettings, work: Callable[..., None]
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    gate.lock("Restored.", now)
    services.unlock_sending(by=None, now=now)
    first = message.deliveries.order_by("contact")[0]
    line = json.dumps({"message_id": message_id_of(message, first.pk), "from": "mail@localhost"})
    later = now + timedelta(hours=1)
    found = settle_by_log([line], now=later, complete=True)
    assert (found.accepted, found.planned, found.left) == (1, 4, 0)
    way = Script()
    work(way, at=later)
    assert len(way.offered) == 4
    assert states() == ["accepted"] * 5


def test_a_worker_that_still_holds_a_chunk_loses_it(message: Message, now: datetime) -> None:
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    gate.lock("Restored.", now)
    services.unlock_sending(by=None, now=now)
    assert not link(chunk, seconds=60, now=now).ours
    way = Script()
    services.send_chunk(chunk, Mailing(message), way, clock=lambda: now, stop=lambda: False)
    assert way.offered == []
    assert states() == ["unknown"] * 5


def test_a_message_whose_time_came_meanwhile_is_paused_and_one_whose_time_is_to_come_goes_on(
    people: list[Contact], another: Callable[[datetime], Message], owner: User, now: datetime
) -> None:
    overdue, scheduled = another(now + DAY), another(now + 3 * DAY)
    gate.lock("Restored.", now)
    found = services.unlock_sending(by=owner, now=now + 2 * DAY)
    assert (found.overdue, found.scheduled) == (1, 1)
    assert [state_of(overdue), state_of(scheduled)] == ["paused", "confirmed"]
    overdue.refresh_from_db()
    assert "may have been sent" in services.progress(overdue, now=now + 2 * DAY).waits_because
    services.resume_message(overdue, by=owner, now=now + 2 * DAY)
    assert state_of(overdue) == Message.State.CONFIRMED


@pytest.mark.parametrize(("of_day", "became"), [(0, "unknown"), (1, "held")])
def test_what_waited_for_a_digest_is_in_doubt_only_if_one_was_due_since_the_database_was_saved(
    message: Message, now: datetime, of_day: int, became: str
) -> None:
    # Saturday noon; digests go on Sundays at ten.
    first = message.deliveries.order_by("contact")[0]
    Delivery.objects.filter(pk=first.pk).update(state="held", reason="weekly")
    recount(message.pk, [first.contact_id])
    gate.beat(now + of_day * DAY)
    gate.lock("Restored.", now + 2 * DAY)
    found = services.unlock_sending(by=None, now=now + 2 * DAY)
    assert (found.held, found.told) == (1, 1 - of_day)
    assert states() == [became] + ["unknown"] * 4


def test_nothing_was_sent_lets_everything_go_on(
    message: Message, people: list[Contact], now: datetime, work: Callable[..., None]
) -> None:
    begin(message, now)
    gate.lock("The operator is at work.", now)
    services.unlock_sending(by=None, now=now, nothing_was_sent=True)
    work()
    assert states() == ["accepted"] * 5
    assert state_of(message) == Message.State.DONE


def test_a_copy_whose_original_lives_on_cancels_what_that_one_sends(
    message: Message, another: Callable[[datetime], Message], now: datetime, settings: LazySettings
) -> None:
    assert gate.may_send(now)
    scheduled = another(now + DAY)
    begin(message, now)
    first = Delivery.objects.order_by("contact")[0]
    Delivery.objects.filter(pk=first.pk).update(state="held", reason="weekly")
    settings.INSTALLATION_ID = "staging"
    services.unlock_sending(by=None, now=now, as_new=True)
    assert [state_of(message), state_of(scheduled)] == ["cancelled", "cancelled"]
    assert states() == ["cancelled", "accepted"] + ["cancelled"] * 3
    assert Gate.objects.get().installation == "staging"
    assert gate.may_send(now)


def test_an_unlocked_database_is_known_when_it_is_put_back_once_more(message: Message, now: datetime) -> None:
    for _ in range(5):
        gate.beat(now)
    saved = Gate.objects.values("birth", "beat").get()
    gate.beat(now)
    Gate.objects.update(beat=saved["beat"])
    assert not gate.may_send(now)
    services.unlock_sending(by=None, now=now, nothing_was_sent=True)
    assert gate.may_send(now)
    Gate.objects.update(**saved)
    assert not gate.may_send(now)


def test_what_is_open_is_not_unlocked_and_nothing_changes(message: Message, now: datetime) -> None:
    with pytest.raises(NotLocked):
        services.unlock_sending(by=None, now=now)
    gate.beat(now)
    with pytest.raises(NotLocked):
        services.unlock_sending(by=None, now=now)
    assert states() == ["planned"] * 5


# --- at the terminal ------------------------------------------------------------------------------------


def say(*arguments: str) -> str:
    out = StringIO()
    call_command("sending", *arguments, stdout=out)
    return out.getvalue()


def test_an_operator_sees_what_unlocking_does_and_is_asked(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "locked" in say("lock", "Before a restore.")
    assert "already" in say("lock", "Again.")
    monkeypatch.setattr("builtins.input", lambda _words: "no")
    with pytest.raises(CommandError, match="Nothing was done"):
        say("unlock")
    assert states() == ["planned"] * 5
    monkeypatch.setattr("builtins.input", lambda _words: "yes")
    said = say("unlock")
    assert "5 mails that were not offered" in said
    assert states() == ["unknown"] * 5
    with pytest.raises(CommandError, match="nothing to unlock"):
        say("unlock", "--yes")


@pytest.mark.parametrize(
    ("way", "words"), [("--nothing-was-sent", "They go now"), ("--as-new", "All are cancelled")]
)
def test_each_way_of_unlocking_says_its_own(message: Message, way: str, words: str) -> None:
    say("lock", "x")
    assert words in say("unlock", way, "--yes")


def test_the_status_is_one_screen_of_words_and_numbers(
    message: Message, now: datetime, work: Callable[..., None], settings: LazySettings
) -> None:
    Gate.objects.all().delete()
    assert "ever sent" in say("status")
    begin(message, now)
    # The status reads the clock, and counts the mails of thirty days.
    Message.objects.update(started_at=timezone.now())
    settings.MAIL_RATE = 5
    said = say("status")
    assert "Sending is open." in said
    assert "“November”: 2 of 5 (40 %)" in said
    assert "5 mails a second" in said
    assert "2 accepted by the mail system" in said
    assert len(said.splitlines()) <= 24


def test_the_status_says_why_nothing_goes(message: Message, now: datetime, settings: LazySettings) -> None:
    gate.beat(now)
    Gate.objects.update(rests_until=now + 10_000 * DAY, rests_because="535 wrong password")
    assert "rests until" in say("status")
    gate.lock("The database was put back.", now)
    assert "LOCKED since 2026-11-21 12:00:00 UTC: The database was put back." in say("status")
    settings.INSTALLATION_ID = "other"
    assert "another installation" in say("status")

"""Whether this installation may send: whose the database is, where it stands, how far it was, and how fast it may go."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connection

from accounts.models import Letter
from groups.models import Contact
from messaging import gate, services
from messaging.models import Delivery, Gate, Message, ProviderAnswer
from messaging.providers import Answer, Kind, SignInRefused
from tests.messaging.test_chunks import Script
from tests.messaging.test_races import all_at_once

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


def row() -> Gate:
    return Gate.objects.get()


def alarms() -> list[str]:
    return list(Letter.objects.filter(kind="alarm").order_by("pk").values_list("text", flat=True))


def put_back(beat: int) -> None:
    """As if the database were one that was saved when its beat was this."""
    Gate.objects.update(beat=beat)


def test_a_fresh_database_belongs_to_whoever_sends_first_and_just_sends(
    message: Message, now: datetime, settings: LazySettings, work: Callable[..., None]
) -> None:
    assert gate.shut_because(now) == ""
    assert gate.may_send(now)
    assert row().installation == settings.INSTALLATION_ID
    work()
    assert set(Delivery.objects.values_list("state", flat=True)) == {"accepted"}
    assert alarms() == []


def test_every_look_for_mails_makes_the_beat_grow_and_keeps_it_outside_the_database(
    now: datetime, settings: LazySettings
) -> None:
    assert gate.may_send(now)
    gate.beat(now)
    kept = Path(settings.GATE_DIR) / row().birth
    assert (row().beat, row().beaten_at, int(kept.read_text())) == (2, now, 2)


def test_a_database_of_another_installation_sends_nothing_here_and_is_not_locked_for_the_others(
    message: Message, now: datetime, settings: LazySettings
) -> None:
    assert gate.may_send(now)
    settings.INSTALLATION_ID = "staging"
    assert not gate.may_send(now)
    assert not gate.may_send(now)
    assert services.open_chunk(owner="x", now=now) is None
    assert gate.shut_because(now)
    assert row().locked_at is None
    (text,) = alarms()
    assert "INSTALLATION_ID" in text


def test_a_database_put_back_to_an_earlier_day_is_locked(message: Message, now: datetime) -> None:
    for _ in range(5):
        assert gate.may_send(now)
    put_back(3)
    assert not gate.may_send(now + MINUTE)
    assert row().locked_at == now + MINUTE
    assert row().beaten_at == now
    # Neither time nor another look opens it.
    assert not any(gate.may_send(now + n * MINUTE) for n in range(10))
    assert services.open_chunk(owner="x", now=now) is None
    assert len(alarms()) == 1
    assert gate.shut_because(now)


def test_the_very_last_backup_is_known_for_one_too(now: datetime) -> None:
    assert gate.may_send(now)
    put_back(0)
    assert not gate.may_send(now)


def test_workers_of_two_machines_keep_a_beat_each_and_neither_takes_the_other_for_a_restored_database(
    now: datetime, settings: LazySettings, tmp_path: Path
) -> None:
    for _ in range(3):
        for machine in ("one", "two"):
            settings.GATE_DIR = tmp_path / machine
            assert gate.may_send(now)
    assert int((tmp_path / "one" / row().birth).read_text()) == 5
    put_back(4)
    settings.GATE_DIR = tmp_path / "one"
    assert not gate.may_send(now)


def test_a_beat_kept_late_never_takes_a_higher_ones_place(now: datetime, settings: LazySettings) -> None:
    assert gate.may_send(now)
    slow = row()
    assert gate.may_send(now)
    gate._keep(slow)
    assert int((Path(settings.GATE_DIR) / slow.birth).read_text()) == 2


def test_a_new_database_in_an_old_house_sends(
    message: Message, now: datetime, settings: LazySettings
) -> None:
    # As a developer has who begins anew, or a test.
    folder = Path(settings.GATE_DIR)
    folder.mkdir()
    (folder / "of-another-database").write_text("9" * 20)
    Message.objects.update(started_at=None, state="confirmed", done_at=None)
    assert gate.may_send(now)


def test_a_database_saved_before_there_was_a_gate_is_locked_where_others_were_used(
    message: Message, now: datetime, settings: LazySettings
) -> None:
    Gate.objects.all().delete()
    folder = Path(settings.GATE_DIR)
    folder.mkdir(exist_ok=True)
    (folder / "of-another-database").write_text("9" * 20)
    assert not gate.may_send(now)
    assert row().locked_at == now


@pytest.mark.postgres
def test_a_database_that_stands_elsewhere_is_locked(now: datetime) -> None:
    assert gate.may_send(now)
    assert row().place
    Gate.objects.update(place="7000000000000000000 5")
    assert not gate.may_send(now)
    assert row().locked_at == now


@pytest.mark.postgres
def test_a_server_that_does_not_say_where_it_stands_is_taken_as_it_is(now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
        cursor.execute("CREATE ROLE gate_nobody")
        cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO gate_nobody")
        cursor.execute("SET LOCAL ROLE gate_nobody")
    assert gate.may_send(now)
    assert row().place == ""


def test_locking_twice_is_once_and_who_locked_it_first_is_heard(now: datetime) -> None:
    assert gate.lock("The operator is at work.", now)
    assert not gate.lock("Something else.", now)
    assert row().locked_because == "The operator is at work."
    assert not gate.may_send(now)
    assert len(alarms()) == 1


def test_a_folder_that_keeps_nothing_lets_nothing_go(
    now: datetime, settings: LazySettings, tmp_path: Path
) -> None:
    (tmp_path / "a-file").write_text("")
    settings.GATE_DIR = tmp_path / "a-file" / "gate"
    with pytest.raises(OSError, match="a-file"):
        gate.may_send(now)


def test_no_message_starts_and_uses_its_slots_while_nothing_may_go(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    gate.lock("Restored.", now)
    message = start(confirm(draft))
    assert (message.state, message.started_at) == (Message.State.CONFIRMED, None)
    gate.adopt(now)
    assert services.begin_sending(message.pk, now=now)


# --- resting --------------------------------------------------------------------------------------------


def test_a_refused_sign_in_rests_everything_until_its_time_and_an_operator_knows_once_a_day(
    message: Message, now: datetime, work: Callable[..., None]
) -> None:
    work(Script(closed=SignInRefused("535 wrong password")))
    assert not gate.may_send(now)
    assert gate.shut_because(now)
    gate.rest("535 wrong password", seconds=30, now=now)
    (text,) = alarms()
    assert "535 wrong password" in text
    until = row().rests_until
    assert until is not None
    assert until > now + timedelta(seconds=30)
    assert gate.may_send(until)
    assert gate.shut_because(until) == ""


# --- the rate -------------------------------------------------------------------------------------------


def test_without_a_rate_mails_go_as_fast_as_they_can(now: datetime) -> None:
    assert gate.share(500) == 500
    assert gate.reserve(1_000_000, now) == now
    assert gate.wait_turn(1_000_000, clock=lambda: now, stop=lambda: False)
    assert not Gate.objects.exists()


def test_each_wave_goes_when_the_one_before_it_has_had_its_time(
    now: datetime, settings: LazySettings
) -> None:
    settings.MAIL_RATE = 2.0
    assert gate.share(500) == 2
    assert gate.share(1) == 1
    assert [gate.reserve(2, now) for _ in range(3)] == [now + timedelta(seconds=n) for n in (0, 1, 2)]
    # What was not used is not saved up.
    later = now + timedelta(hours=1)
    assert [gate.reserve(2, later) for _ in range(2)] == [later, later + timedelta(seconds=1)]


def test_less_than_a_mail_a_second_is_one_at_a_time(now: datetime, settings: LazySettings) -> None:
    settings.MAIL_RATE = 0.2
    assert gate.share(10) == 1
    assert gate.reserve(1, now) == now
    assert gate.reserve(1, now) == now + timedelta(seconds=5)


def test_whose_turn_is_too_far_away_reserves_nothing_and_no_chunk_is_opened_meanwhile(
    message: Message, now: datetime, settings: LazySettings
) -> None:
    settings.MAIL_RATE = 1.0
    settings.SEND_LEASE_SECONDS = 40.0
    gate.reserve(15, now)
    assert gate.reserve(1, now) == gate.reserve(1, now) == now + timedelta(seconds=15)
    assert not gate.wait_turn(1, clock=lambda: now, stop=lambda: False)
    assert not gate.may_send(now)
    assert services.open_chunk(owner="x", now=now) is None
    assert gate.may_send(now + timedelta(seconds=5))


def test_a_worker_waits_for_its_turn_unless_it_is_asked_to_go(
    now: datetime, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("messaging.gate.time.sleep", slept.append)
    settings.MAIL_RATE = 1.0
    assert gate.wait_turn(1, clock=lambda: now, stop=lambda: False)
    assert slept == []
    assert gate.wait_turn(1, clock=lambda: now, stop=lambda: False)
    assert sum(slept) == 1
    slept.clear()
    assert not gate.wait_turn(1, clock=lambda: now, stop=lambda: len(slept) == 3)
    assert sum(slept) == 1.5


def test_a_send_keeps_to_the_rate_in_waves_of_a_seconds_mails(
    message: Message,
    now: datetime,
    settings: LazySettings,
    work: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("messaging.gate.time.sleep", slept.append)
    settings.MAIL_RATE = 2.0
    way = Script(wave=5)
    work(way)
    assert len(way.offered) == 5
    # Five mails in waves of two, two and one, and the clock of this test stands still.
    assert sum(slept) == 1 + 2


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_workers_together_keep_to_the_rate(now: datetime, settings: LazySettings) -> None:
    settings.MAIL_RATE = 10.0
    settings.SEND_LEASE_SECONDS = 400.0
    moments: list[datetime] = []
    lock = threading.Lock()

    def work() -> None:
        for _ in range(10):
            at = gate.reserve(5, now)
            with lock:
                moments.append(at)

    assert set(all_at_once([work] * 8)) == {None}
    # 80 waves of 5 at 10 a second: every half second one, none beside another.
    assert sorted(moments) == [now + timedelta(seconds=n / 2) for n in range(80)]


def lock_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has found that the gate must be shut is slow to do it."""
    lock = gate.lock

    def slowly(because: str, at: datetime) -> bool:
        time.sleep(0.3)
        return lock(because, at)

    monkeypatch.setattr(gate, "lock", slowly)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_workers_that_begin_at_once_on_an_older_database_all_find_it_locked(
    message: Message, now: datetime, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Gate.objects.all().delete()
    folder = Path(settings.GATE_DIR)
    folder.mkdir(exist_ok=True)
    (folder / "of-another-database").write_text("9" * 20)
    lock_slowly(monkeypatch)
    # Each a little later than the one before: the first has made the row by then.
    looks = [lambda number=number: (time.sleep(0.03 * number), gate.may_send(now))[1] for number in range(8)]
    assert all_at_once(looks) == [False] * 8
    assert row().locked_at == now


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_workers_that_look_at_once_take_no_database_for_a_restored_one_and_all_see_one_that_is(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> list[bool]:
        return [gate.may_send(now) for _ in range(10)]

    for seen in all_at_once([look] * 8):
        assert seen == [True] * 10
    assert row().beat == 80
    # By fewer beats than there are workers: the first of them shuts it for all, or the sixth would pass.
    put_back(75)
    lock_slowly(monkeypatch)
    for seen in all_at_once([look] * 8):
        assert seen == [False] * 10
    assert row().locked_at


# --- answers --------------------------------------------------------------------------------------------


def test_answers_are_counted_by_kind_over_all_chunks(
    message: Message, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(Script([Answer(Kind.REFUSED, "550 no", 550), Answer(Kind.IN_DOUBT, "timed out")]))
    numbers = {answer.kind: answer.number for answer in ProviderAnswer.objects.all()}
    assert numbers == {"accepted": 3, "refused": 1, "in doubt": 1}

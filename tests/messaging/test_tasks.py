"""Waking: the rows decide what happens, whether the broker is there or not."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from django.conf import LazySettings
from django.core import mail
from kombu.exceptions import OperationalError

from config.celery import app
from groups.models import Contact
from messaging import tasks
from messaging.models import Message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def eager() -> Iterator[None]:
    """A worker that takes up what is rung at once."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


@pytest.fixture
def due(draft: Message, people: list[Contact], confirm: Callable[..., Message]) -> Message:
    """Confirmed in the past of this machine's clock."""
    long_ago = datetime.fromisoformat("2026-03-01T12:00Z")
    return confirm(draft, due_at=long_ago, at=long_ago)


def test_a_ring_takes_a_message_from_its_grants_to_its_last_mail(eager: None, due: Message) -> None:
    tasks.wake_message(due.pk)
    due.refresh_from_db()
    assert due.state == Message.State.DONE
    assert len(mail.outbox) == 5


def test_a_sweep_finds_by_itself_what_nobody_rang_for(eager: None, due: Message) -> None:
    tasks.sweep()
    due.refresh_from_db()
    assert due.state == Message.State.DONE
    tasks.sweep()
    assert len(mail.outbox) == 5


def test_a_broker_that_is_away_is_no_error(
    due: Message, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_args: object, **_kwargs: object) -> None:
        raise OperationalError

    monkeypatch.setattr(tasks.advance, "apply_async", away)
    tasks.wake_message(due.pk)
    assert "no broker to ring" in caplog.text


def test_as_many_workers_are_rung_for_as_there_is_work_for_and_none_for_nothing(
    due: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []

    def ring(*_args: object, **_kwargs: object) -> None:
        rung.append("send")
        if answers and answers.pop():
            raise OperationalError

    answers: list[bool] = []
    monkeypatch.setattr(tasks.send, "apply_async", ring)
    monkeypatch.setattr("messaging.services.plan.CHUNK", 2)
    tasks.advance(due.pk)
    assert len(rung) == due.chunks.count() == 3
    # A broker that is away is not asked again for each of them.
    rung, answers = [], [True]
    tasks._ring_send()
    assert rung == ["send"]
    rung = []
    monkeypatch.setattr(tasks, "RINGS", 2)
    tasks._ring_send()
    assert len(rung) == 2
    rung = []
    due.chunks.update(state="done")
    tasks._ring_send()
    assert rung == []


def test_a_second_send_in_the_same_process_goes_home(eager: None, due: Message) -> None:
    with tasks._sending:
        tasks.sweep()
    assert mail.outbox == []
    tasks.send()
    assert len(mail.outbox) == 5


def test_a_worker_that_is_going_down_sends_nothing_more(
    eager: None, due: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_going_down", threading.Event())
    tasks._stop_sending()
    tasks.sweep()
    assert mail.outbox == []


def test_a_send_ends_its_turn_and_rings_again(
    due: Message, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(tasks, "_ring", lambda task, *_args: rung.append(task.name))
    monkeypatch.setattr(tasks, "TURN_SECONDS", -1.0)
    tasks.sweep()
    tasks.send()
    assert rung == ["messaging.tasks.send", "messaging.tasks.send"]
    assert mail.outbox == []

"""Progress in numbers: for operators, cheaply, and for nobody else."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.services import post_letter
from groups.models import Contact, Creator
from messaging import gate
from messaging.models import Chunk, Delivery, Gate, Message, ProviderAnswer, ProviderEvent
from messaging.services.tallies import recount
from rows.clock import db_now
from tests.messaging.conftest import *  # noqa: F403 – a message on its way

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def now() -> datetime:
    """Pages read the clock."""
    return timezone.now().replace(microsecond=0)


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


def read(**headers: str) -> dict[str, float]:
    page = Client().get("/metrics", headers=headers)
    assert page.status_code == 200
    assert page["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in page.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _space, value in (line.rpartition(" ") for line in lines)}


def test_a_fresh_installation_has_nothing_to_worry_about() -> None:
    assert set(read().values()) == {0.0}
    assert "largesse_beat_seconds" not in read()


def test_progress_is_told_in_numbers(message: Message, now: datetime, creator: Creator) -> None:
    Message.objects.update(started_at=now - HOUR, due_at=now - HOUR)
    gate.beat(now - HOUR)
    gate.rest("535", seconds=7200, now=now - HOUR)
    gate.lock("Restored.", now)
    first = message.deliveries.order_by("contact")[0]
    Delivery.objects.filter(pk=first.pk).update(state="unknown")
    recount(message.pk, [first.contact_id])
    Chunk.objects.update(lease_until=db_now() - HOUR)
    post_letter("code", "a@b.example", subject="s", text="t", dedupe_key="k", now=now - HOUR)
    for state in ("new", "held", "held"):
        ProviderEvent.objects.create(
            provider="x",
            event_id=f"{state}{ProviderEvent.objects.count()}",
            kind="bounced",
            at=now,
            state=state,
            received_at=now,
            raw="{}",
        )
    ProviderAnswer.objects.create(provider='sm"tp', kind="in doubt", number=7)
    found = read()
    for name in (
        "gate_locked",
        "gate_resting",
        "messages_running",
        "deliveries_unknown",
        "leases_expired",
        "events_new",
    ):
        assert found.pop(f"largesse_{name}") == 1, name
    assert found.pop("largesse_events_held") == 2
    # The letter, and the alarms to nobody are none.
    assert found.pop("largesse_letters_waiting") == 1
    for name in ("oldest_due_seconds", "oldest_letter_seconds", "beat_seconds"):
        assert 3600 <= found.pop(f"largesse_{name}") < 3700, name
    assert found.pop('largesse_answers_total{provider="sm\\"tp",kind="in doubt"}') == 7
    assert set(found.values()) == {0.0}


def test_messages_are_told_apart_by_what_they_wait_for(
    message: Message, now: datetime, creator: Creator
) -> None:
    Message.objects.update(due_at=now + HOUR, waits_because="The mail server is away.", stalled_at=now)
    found = read()
    assert (found["largesse_messages_waiting"], found["largesse_messages_stalled"]) == (1, 1)
    assert found["largesse_oldest_due_seconds"] == 0
    Message.objects.update(
        state="confirmed", done_at=None, started_at=None, waits_because="", stalled_at=None
    )
    assert read()["largesse_messages_scheduled"] == 1
    Message.objects.update(due_at=now - HOUR)
    assert read()["largesse_oldest_due_seconds"] >= 3600
    Message.objects.update(state="paused", done_at=None)
    assert read()["largesse_messages_paused"] == 1


def test_no_more_is_asked_however_many_mails_lie_behind_it(
    message: Message, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(8):
        read()
    Chunk.objects.bulk_create(
        Chunk(message=message, number=n, after=n * 10**6, until=n * 10**6 + 1, tally={"unknown": 1})
        for n in range(1, 200)
    )
    with django_assert_num_queries(8):
        assert read()["largesse_deliveries_unknown"] == 199


@pytest.mark.parametrize(
    "through",
    [
        {"REMOTE_ADDR": "203.0.113.9"},
        {"REMOTE_ADDR": ""},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_X_FORWARDED_PROTO": "https"},
        {"HTTP_X_REAL_IP": "127.0.0.1"},
    ],
)
def test_without_a_token_only_this_machine_reads_and_nobody_through_a_proxy(through: dict[str, str]) -> None:
    assert Client(**through).get("/metrics").status_code == 404


def test_with_a_token_only_its_bearer_reads_from_wherever_they_are(settings: LazySettings) -> None:
    settings.METRICS_TOKEN = "s3cret"
    assert Client().get("/metrics").status_code == 404
    for wrong in ("Bearer s3cre", "Bearer ", "s3cret", "Bearer s3crét", "Basic s3cret"):
        assert Client().get("/metrics", headers={"Authorization": wrong}).status_code == 404
    away = Client(REMOTE_ADDR="203.0.113.9", HTTP_X_FORWARDED_FOR="203.0.113.9")
    assert away.get("/metrics", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_metrics_change_nothing_and_take_no_form(message: Message) -> None:
    read()
    assert Client().post("/metrics").status_code == 405
    assert not Gate.objects.exists() or Gate.objects.get().beat == 0

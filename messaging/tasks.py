"""Wake-ups only: find what is due, call one service each."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from celery import Task, shared_task
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import InterfaceError, connection
from django.db import OperationalError as DatabaseAway
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.services import tell_of_trouble
from distribution.services import fan_out_grants
from messaging import gate, services
from messaging.models import Chunk, DryRun, Message
from messaging.providers import provider
from rows.clock import db_now
from rows.work import Sweep

log = logging.getLogger(__name__)

# A send lets go after this long and rings again, so that nothing else a worker is for ever waits for it.
TURN_SECONDS = 60.0
# So many rings for mails that wait: a worker that sends already lets its ring pass, and who hears none sweeps.
RINGS = 16

_going_down = threading.Event()
# One connection to the mail system a process: the wake-ups that find it in use go home.
_sending = threading.Lock()


@worker_shutting_down.connect
def _stop_sending(**_kwargs: object) -> None:
    """A worker that is asked to go ends between two mails: nothing is left in doubt."""
    _going_down.set()


COUNTING = Sweep(
    due=lambda now: DryRun.objects.asked(),
    work=lambda pk: services.count_dry_run(pk, now=timezone.now()),
    tell=lambda run: tell_of_trouble(run, now=timezone.now()),
)


@shared_task
def sweep() -> None:
    """Every 15 seconds and at every worker's start: messages that are due, chunks that nobody holds.

    What goes wrong in one part keeps no other from its work; a database that is away ends them all.
    """
    for part in (
        _beat,
        _plan_digests,
        _advance_due,
        _clear,
        _ring_send,
        _count_asked,
        _take_events,
        _watch,
        _settle,
    ):
        _do(part)


def _do(part: Callable[..., object], *args: int) -> None:
    try:
        part(*args)
    except (DatabaseAway, InterfaceError):
        raise
    except Exception:
        log.exception("sweep: %s %s", part.__name__.strip("_"), args or "")


def _beat() -> None:
    gate.beat(timezone.now())


def _plan_digests() -> None:
    services.plan_digests(timezone.now())


def _advance_due() -> None:
    for message_id in Message.objects.due(timezone.now()).order_by("due_at").values_list("pk", flat=True):
        _do(_advance, message_id)


def _clear() -> None:
    for message_id in Message.objects.to_clear().values_list("pk", flat=True):
        services.clear_cancelled(message_id, now=timezone.now())


def _ring_send() -> None:
    """As many workers as there is work for hear of it, not only the first that is free."""
    waiting = Chunk.objects.filter(state=Chunk.State.OPEN).unleased(db_now())[:RINGS].count()
    for _worker in range(waiting):
        if not _ring(send):
            break


def _take_events() -> None:
    services.apply_events(now=timezone.now())
    services.forget_events(now=timezone.now())


def _watch() -> None:
    services.watch(timezone.now())


def _count_asked() -> None:
    COUNTING.run()


def _settle() -> None:
    # Last, as it asks others and waits for their answers.
    services.settle_by_replay(timezone.now())
    services.settle_by_search(timezone.now())


@shared_task
def advance(message_id: int) -> None:
    """One message as far as it goes now: what its release gives, then who is told, then the mails."""
    _advance(message_id)
    _ring_send()


@shared_task
def send() -> None:
    """The mails that may go now, for one turn."""
    if not _sending.acquire(blocking=False):
        return
    try:
        _keep_every_commit()
        ends = time.monotonic() + TURN_SECONDS
        services.send_waiting(
            owner=f"{socket.gethostname()}:{os.getpid()}",
            provider=provider(),
            clock=timezone.now,
            stop=lambda: _going_down.is_set() or time.monotonic() > ends,
        )
    finally:
        _sending.release()
    if time.monotonic() > ends:
        _ring(send)


@shared_task
def count_dry_run(message_id: int) -> None:
    """The dry run of one large draft. On a queue of its own kind: somebody looks at it and waits."""
    COUNTING.run(only=message_id)


def wake_dry_run(message_id: int) -> None:
    """Ring the worker for one dry run."""
    _ring(count_dry_run, message_id)


def wake_message(message_id: int) -> None:
    """Ring the worker for one message. A broker that is away costs the seconds until the next sweep."""
    _ring(advance, message_id)


def _ring(task: Task[..., None], *args: int) -> bool:
    """Whether the broker took it."""
    try:
        task.apply_async(args, expires=settings.SWEEP_SECONDS)
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)
        return False
    return True


def _advance(message_id: int) -> None:
    now = timezone.now()
    release_id = Message.objects.values_list("release_id", flat=True).get(pk=message_id)
    fan_out_grants(release_id, now=now)
    services.plan_deliveries(message_id, now=now)
    services.begin_sending(message_id, now=now)
    services.finish_message(message_id, now=now)


def _keep_every_commit() -> None:
    """SQLite in WAL may lose the last commits with the power; an intent that is lost is a mail sent twice."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=FULL")

"""Wake-ups only: find what is due, call one service each."""

import logging
import os
import socket
import threading
import time

from celery import Task, shared_task
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError

from distribution.services import fan_out_grants
from messaging import services
from messaging.models import Message
from messaging.providers import provider

log = logging.getLogger(__name__)

# A send lets go after this long and rings again, so that nothing else a worker is for ever waits for it.
TURN_SECONDS = 60.0

_going_down = threading.Event()
# One connection to the mail system a process: the wake-ups that find it in use go home.
_sending = threading.Lock()


@worker_shutting_down.connect
def _stop_sending(**_kwargs: object) -> None:
    """A worker that is asked to go ends between two mails: nothing is left in doubt."""
    _going_down.set()


@shared_task
def sweep() -> None:
    """Every 15 seconds and at every worker's start: messages that are due, chunks that nobody holds."""
    for message_id in Message.objects.due(timezone.now()).order_by("due_at").values_list("pk", flat=True):
        _advance(message_id)
    _ring(send)


@shared_task
def advance(message_id: int) -> None:
    """One message as far as it goes now: what its release gives, then who is told, then the mails."""
    _advance(message_id)
    _ring(send)


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


def wake_message(message_id: int) -> None:
    """Ring the worker for one message. A broker that is away costs the seconds until the next sweep."""
    _ring(advance, message_id)


def _ring(task: Task[..., None], *args: int) -> None:
    try:
        task.apply_async(args, expires=settings.SWEEP_SECONDS)
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)


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

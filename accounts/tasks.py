"""Wake-ups only: find what is due, call one service each."""

import logging

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts import services

log = logging.getLogger(__name__)


@shared_task
def sweep() -> None:
    """Every 15 seconds, and whenever a letter was posted: send what waits."""
    services.send_due_letters(now=timezone.now())


def wake() -> None:
    """Ring the worker. A broker that is away costs the seconds until the next sweep."""
    try:
        sweep.delay()
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)

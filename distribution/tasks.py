"""Wake-ups only: find what is due, call one service each."""

import logging

from celery import Task, shared_task
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from distribution import services
from distribution.models import Release
from rows.clock import db_now

log = logging.getLogger(__name__)


@shared_task
def sweep() -> None:
    """Every 15 seconds: releases that are due, those a lost worker left, those that late joiners wait for.

    Done here and not rung for: that would need a broker.
    """
    unleased = Release.objects.unleased(db_now())
    for release_id in list(unleased.due(timezone.now()).values_list("pk", flat=True)):
        services.fan_out_grants(release_id, now=timezone.now())
    for release_id in list(unleased.behind().values_list("pk", flat=True)):
        services.extend_to_late_joiners(release_id, now=timezone.now())


@shared_task
def give_release(release_id: int) -> None:
    services.fan_out_grants(release_id, now=timezone.now())


@shared_task
def take_back(release_id: int) -> None:
    services.take_back_release(release_id, now=timezone.now())


def wake_release(release_id: int) -> None:
    """Ring the worker for one release. A broker that is away costs the seconds until the next sweep."""
    _ring(give_release, release_id)


def wake_recall(release_id: int) -> None:
    """Ring the worker for the libraries that a recalled release has yet to leave."""
    _ring(take_back, release_id)


def _ring(task: "Task[[int], None]", release_id: int) -> None:
    try:
        task.apply_async((release_id,), expires=settings.SWEEP_SECONDS)
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)

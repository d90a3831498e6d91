"""Wake-ups only: find what is due, call one service each."""

import logging

from celery import Task, shared_task
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.services import tell_of_trouble
from distribution import services
from distribution.models import Release
from distribution.services import counting
from rows.work import Sweep

log = logging.getLogger(__name__)


def _tell(release: Release) -> None:
    tell_of_trouble(release, now=timezone.now())


def _take_back(release_id: int) -> None:
    if services.take_back_release(release_id, now=timezone.now()):
        counting.count_holders_of(release_id, now=timezone.now())


# None is ever given up: what somebody is entitled to, or has to lose, is tried until it is done.
GIVING = Sweep(
    due=Release.objects.due,
    work=lambda pk: services.fan_out_grants(pk, now=timezone.now()),
    tell=_tell,
)
WELCOMING = Sweep(
    due=lambda now: Release.objects.behind(),
    work=lambda pk: services.extend_to_late_joiners(pk, now=timezone.now()),
    tell=_tell,
)
TAKING_BACK = Sweep(
    due=lambda now: Release.objects.being_taken_back(),
    work=_take_back,
    tell=_tell,
)
COUNTING = Sweep(
    due=Release.objects.to_count,
    work=lambda pk: counting.count_all(pk, now=timezone.now()),
    tell=_tell,
)


@shared_task
def sweep() -> None:
    """Every 15 seconds: releases that are due, those a lost worker left, those to be taken back, late joiners, numbers.

    Done here and not rung for: that would need a broker.
    """
    for each in (TAKING_BACK, GIVING, WELCOMING, COUNTING):
        each.run()


@shared_task
def give_release(release_id: int) -> None:
    GIVING.run(only=release_id)


@shared_task
def take_back(release_id: int) -> None:
    TAKING_BACK.run(only=release_id)


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

"""Wake-ups only: find what is due, call one service each."""

import logging

from celery import shared_task
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from distribution import services
from distribution.models import Release
from rows.clock import db_now

log = logging.getLogger(__name__)


@shared_task
def sweep() -> None:
    """Every 15 seconds: releases that are due, those a lost worker left, those that late joiners wait for."""
    unleased = Release.objects.unleased(db_now())
    for release_id in unleased.due(timezone.now()).values_list("pk", flat=True):
        wake_release(release_id)
    for release_id in unleased.behind().values_list("pk", flat=True):
        welcome_late_joiners.apply_async((release_id,), expires=settings.SWEEP_SECONDS)


@shared_task
def give_release(release_id: int) -> None:
    services.fan_out_grants(release_id, now=timezone.now())


@shared_task
def welcome_late_joiners(release_id: int) -> None:
    services.extend_to_late_joiners(release_id, now=timezone.now())


def wake_release(release_id: int) -> None:
    """Ring the worker for one release. A broker that is away costs the seconds until the next sweep."""
    try:
        give_release.apply_async((release_id,), expires=settings.SWEEP_SECONDS)
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)

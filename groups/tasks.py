"""Wake-ups only: find what is due, call one service each."""

import logging

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.services import tell_of_trouble
from groups import services
from groups.models import Import
from groups.services import sizes
from rows.work import Sweep

log = logging.getLogger(__name__)


def _bring_on(import_id: int) -> None:
    services.check_import(import_id, now=timezone.now())
    services.apply_import(import_id, now=timezone.now())


IMPORTING = Sweep(
    due=lambda now: Import.objects.underway().order_by("pk"),
    work=_bring_on,
    tell=lambda run: tell_of_trouble(run, now=timezone.now()),
    give_up=services.give_up_import,
)


@shared_task
def sweep() -> None:
    """Every 15 seconds, and whenever an import is asked for: bring on those that no worker holds, forget old ones, count
    who belongs.
    """
    IMPORTING.run()
    try:
        services.forget_old_imports(now=timezone.now())
    except Exception:
        log.exception("old imports could not be forgotten")
    for group_id in sizes.groups_to_count(timezone.now()):
        try:
            sizes.count_people(group_id, now=timezone.now())
        except Exception:
            # Until it is counted its pages count for themselves.
            log.exception("group %s could not be counted", group_id)


def wake() -> None:
    """Ring the worker. A broker that is away costs the seconds until the next sweep."""
    try:
        sweep.delay()
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)

"""Wake-ups only: find what is due, call one service each."""

import logging

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from groups import services
from groups.models import Import
from rows.clock import db_now

log = logging.getLogger(__name__)


@shared_task
def sweep() -> None:
    """Every 15 seconds, and whenever an import is asked for: bring on those that no worker holds."""
    due = Import.objects.underway().unleased(db_now()).order_by("pk").values_list("pk", flat=True)
    for import_id in list(due):
        try:
            services.check_import(import_id, now=timezone.now())
            services.apply_import(import_id, now=timezone.now())
        except Exception:
            # One broken import must not keep the others waiting; its lease lapses and it is tried again.
            log.exception("import %s", import_id)


def wake() -> None:
    """Ring the worker. A broker that is away costs the seconds until the next sweep."""
    try:
        sweep.delay()
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)

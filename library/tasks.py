"""Wake-ups only: find what is due, call one service each."""

import logging

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from library.models import Upload
from library.services import uploads

log = logging.getLogger(__name__)


@shared_task
def verify(upload_id: int) -> None:
    """As soon as an upload is complete."""
    uploads.verify_upload(upload_id, now=timezone.now())


@shared_task
def sweep() -> None:
    """Every 15 seconds: check what waits for it, forget what was abandoned."""
    for upload_id in uploads.due_for_checking():
        try:
            uploads.verify_upload(upload_id, now=timezone.now())
        except Exception:
            # One file that trips the check must not keep the others waiting.
            log.exception("upload %s could not be checked", upload_id)
    uploads.forget_abandoned_uploads(now=timezone.now())
    uploads.forget_orphaned_blobs(now=timezone.now())


def wake(upload: Upload) -> None:
    """Ring the worker. A broker that is away costs the seconds until the next sweep."""
    try:
        verify.delay(upload.pk)
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)

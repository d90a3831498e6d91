"""Wake-ups only: find what is due, call one service each."""

import logging

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.services import tell_of_trouble
from library.models import Upload
from library.services import uploads
from rows.work import Sweep

log = logging.getLogger(__name__)


CHECKING = Sweep(
    due=lambda now: Upload.objects.to_check(),
    work=lambda pk: uploads.verify_upload(pk, now=timezone.now()),
    tell=lambda upload: tell_of_trouble(upload, now=timezone.now()),
    give_up=lambda upload: uploads.give_up_upload(upload, now=timezone.now()),
)


@shared_task
def verify(upload_id: int) -> None:
    """As soon as an upload is complete."""
    CHECKING.run(only=upload_id)


@shared_task
def sweep() -> None:
    """Every 15 seconds: check what waits for it, forget what was abandoned."""
    CHECKING.run()
    uploads.forget_abandoned_uploads(now=timezone.now())
    uploads.forget_orphaned_blobs(now=timezone.now())


def wake(upload: Upload) -> None:
    """Ring the worker. A broker that is away costs the seconds until the next sweep."""
    try:
        verify.delay(upload.pk)
    except (OperationalError, OSError) as error:
        log.warning("no broker to ring: %s", type(error).__name__)

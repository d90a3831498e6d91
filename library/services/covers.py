"""A bundle's cover: decoded in a process of its own, shrunk, written anew, kept with the private files."""

import logging
import subprocess
import sys
from typing import BinaryIO

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _

import library.shrink
from library.models import Bundle
from library.services.quotas import turn_for_cover
from library.storage import StorageDown

log = logging.getLogger(__name__)

MAX_BYTES = 20 * 1024**2
SECONDS = 20
# Covers lie where Django keeps files: on the disk, or in the bucket.
STORE_ERRORS = (OSError, BotoCoreError, ClientError)


class PictureRefused(Exception):
    """Not a picture that can become a cover."""


def set_cover(bundle: Bundle, picture: BinaryIO) -> None:
    """The bundle's cover is `picture`: at most 1200 px, WebP, without EXIF (where it was taken, by what).

    Twice: the later one; the one before is deleted. Raises PictureRefused and QuotaReached, then the old cover stays.
    """
    data = picture.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise PictureRefused(_("This picture is larger than 20 MB."))
    with turn_for_cover(bundle.creator, seconds=SECONDS + 10):
        small = _shrunk(data)
    try:
        name = default_storage.save(f"covers/{get_random_string(32)}.webp", ContentFile(small))
    except STORE_ERRORS as error:
        raise PictureRefused(str(StorageDown())) from error
    with transaction.atomic():
        # Two at once: each deletes the one it took the place of.
        locked = Bundle.objects.select_for_update(no_key=True).filter(pk=bundle.pk)
        before = locked.values_list("cover", flat=True).get()
        locked.update(cover=name)
    bundle.cover = name
    if before:
        try:
            default_storage.delete(before)
        except STORE_ERRORS:
            log.exception("the picture %s stays: it cannot be deleted", before)


def _shrunk(data: bytes) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and script
            [sys.executable, "-I", library.shrink.__file__],
            input=data,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PictureRefused(_("This picture takes too long to read. Save it anew.")) from error
    if done.returncode == 0:
        return done.stdout
    if done.stderr == b"large":
        raise PictureRefused(
            _("This picture has more than %(n)d million points. Make it smaller.")
            % {"n": library.shrink.MEGAPIXELS}
        )
    raise PictureRefused(_("This is not a picture we can read. Use PNG, JPEG, WebP or GIF."))

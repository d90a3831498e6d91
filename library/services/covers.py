"""A bundle's cover: decoded in a process of its own, shrunk, written anew, kept with the private files."""

import subprocess
import sys
from typing import BinaryIO

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _

import library.shrink
from library.models import Bundle

MAX_BYTES = 20 * 1024**2
SECONDS = 20


class PictureRefused(Exception):
    """Not a picture that can become a cover."""


def set_cover(bundle: Bundle, picture: BinaryIO) -> None:
    """The bundle's cover is `picture`: at most 1200 px, WebP, without EXIF (where it was taken, by what).

    Twice: the later one; the one before is deleted. Raises PictureRefused, then the old cover stays.
    """
    data = picture.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise PictureRefused(_("This picture is larger than 20 MB."))
    name = default_storage.save(f"covers/{get_random_string(32)}.webp", ContentFile(_shrunk(data)))
    before = Bundle.objects.values_list("cover", flat=True).get(pk=bundle.pk)
    Bundle.objects.filter(pk=bundle.pk).update(cover=name)
    bundle.cover = name
    if before:
        default_storage.delete(before)


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

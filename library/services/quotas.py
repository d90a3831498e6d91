"""A creator whom nobody has approved yet has little room: enough to prepare everything, too little to be worth abusing."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.cache import cache
from django.db.models import Sum
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from groups.models import Creator
from library.models import Blob, Upload


class QuotaReached(Exception):
    """No more fits until the creator is approved."""


def hold_room_for(creator_id: int, size: int) -> None:
    """There is room for an upload of `size` bytes, and nobody else takes it before this transaction ends.

    Call it inside the transaction that writes the upload: for a creator who is not approved it locks the creator.
    Raises QuotaReached with what to do.
    """
    if Creator.objects.select_for_update(no_key=True).get(pk=creator_id).approved_at:
        return
    running = Upload.objects.running().filter(bundle__creator=creator_id)
    limit = settings.UNAPPROVED_UPLOADS
    if running.count() >= limit:
        raise QuotaReached(
            ngettext(
                "Until your studio is approved, %(n)d file can be on its way at a time. Wait for it, or cancel it.",
                "Until your studio is approved, %(n)d files can be on their way at a time. Wait for them, or cancel some.",
                limit,
            )
            % {"n": limit}
        )
    stored = Blob.objects.filter(creator=creator_id, dropped_at=None).aggregate(Sum("size"))["size__sum"] or 0
    coming = running.aggregate(Sum("size"))["size__sum"] or 0
    if stored + coming + size > settings.UNAPPROVED_BYTES:
        raise QuotaReached(
            _(
                "Until your studio is approved, its files may take %(limit)s in all. Upload this one after the"
                " approval, or remove others; what you remove counts for one more day."
            )
            % {"limit": filesizeformat(settings.UNAPPROVED_BYTES)}
        )


@contextmanager
def turn_for_cover(creator: Creator, *, seconds: int) -> Iterator[None]:
    """A picture of `creator` is being decoded, for at most `seconds`; of one not approved, few at a time.

    Raises QuotaReached.
    """
    if creator.approved_at:
        yield
        return
    turns = [f"cover:{creator.pk}:{number}" for number in range(settings.UNAPPROVED_COVERS)]
    ours = next((turn for turn in turns if cache.add(turn, True, timeout=seconds)), None)
    if ours is None:
        raise QuotaReached(_("Another picture of yours is being made smaller. Try again in a moment."))
    try:
        yield
    finally:
        cache.delete(ours)

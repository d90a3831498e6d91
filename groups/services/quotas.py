"""A creator whom nobody has approved yet brings in small lists and few of them: enough to try it, too few to abuse."""

from django.conf import settings
from django.utils.translation import ngettext

from groups.imports.reading import FileRefused
from groups.models import Creator, Import

# A person is a line, and an export's lines are shorter.
BYTES_A_ROW = 1_000


def refuse_large(creator: Creator, *, size: int = 0, rows: int = 0) -> None:
    """A list of `size` bytes or `rows` rows is not too long for this creator. Raises `FileRefused` with what to do."""
    limit = settings.UNAPPROVED_ROWS
    if creator.approved_at is None and (rows > limit or size > limit * BYTES_A_ROW):
        raise FileRefused(
            ngettext(
                "Until your studio is approved, a list may have %(n)d row. Split it, or import it after the approval.",
                "Until your studio is approved, a list may have %(n)d rows. Split it, or import it after the approval.",
                limit,
            )
            % {"n": limit}
        )


def hold_room_for_import(creator_id: int) -> None:
    """There is room for one more import, and nobody else takes it before this transaction ends.

    Call it inside the transaction that writes the import: for a creator who is not approved it locks the creator.
    Raises `FileRefused` with what to do.
    """
    if Creator.objects.select_for_update(no_key=True).get(pk=creator_id).approved_at:
        return
    limit = settings.UNAPPROVED_IMPORTS
    if Import.objects.kept().filter(group__creator=creator_id).count() >= limit:
        raise FileRefused(
            ngettext(
                "Until your studio is approved, %(n)d list is kept for you, for thirty days. Import this one after the approval.",
                "Until your studio is approved, %(n)d lists are kept for you, for thirty days. Import this one after the "
                "approval.",
                limit,
            )
            % {"n": limit}
        )

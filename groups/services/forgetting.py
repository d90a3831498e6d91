"""What people uploaded about others is kept for thirty days, and not longer."""

from datetime import datetime, timedelta

from django.core.files.storage import default_storage
from django.db.models import F, Q
from django.utils.translation import gettext as _

from groups.models import Import, ImportRow

KEPT_FOR = timedelta(days=30)
AT_ONCE = 20
PAGE = 5_000


def forget_old_imports(*, now: datetime) -> int:
    """The files and rows of imports that ended, or wait for a choice, since thirty days are gone. Returns how many.

    What they came to in numbers, and what was chosen, stays. Those that wait for a choice are refused and say why; one
    that a worker has is left alone. At most AT_ONCE in a call. Killed in between: the next call goes on; twice: 0.
    """
    before = now - KEPT_FOR
    waiting = Q(state__in=[Import.State.OPENED, Import.State.CHECKED])
    over = Q(state=Import.State.REFUSED) | Q(state=Import.State.DONE, done_at__lt=before)
    old = Import.objects.kept().filter(waiting | over, created_at__lt=before).order_by("created_at")[:AT_ONCE]
    return sum(_forget(run) for run in old)


def _forget(run: Import) -> bool:
    if run.state in {Import.State.OPENED, Import.State.CHECKED}:
        # Nobody may choose or apply any more what is about to go.
        reason = _("A list is kept for thirty days, and this one was never applied. Upload it again.")
        same = Import.objects.filter(pk=run.pk, state=run.state, epoch=run.epoch)
        if not same.update(state=Import.State.REFUSED, reason=reason, epoch=F("epoch") + 1):
            return False
    default_storage.delete(run.stored_as)
    while page := list(ImportRow.objects.filter(import_run=run).values_list("pk", flat=True)[:PAGE]):
        ImportRow.objects.filter(pk__in=page).delete()
    Import.objects.filter(pk=run.pk).update(stored_as="")
    return True

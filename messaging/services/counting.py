"""Large dry runs (R3): above 50,000 people a worker counts, and the page shows how far it is."""

from collections import Counter
from datetime import datetime, timedelta
from hashlib import sha256

from django.db import transaction
from django.db.models import F

from distribution.audience import next_stop, reached_groups, roster_versions
from groups.models import Membership
from messaging.contents import versions_of
from messaging.models import DryRun, Message
from messaging.services.dry_run import count, everyone
from rows.lease import keep_lease, take_lease

# So many are counted while a page is made: about 100 ms.
AT_ONCE = 50_000
PAGE = 20_000
# Afterwards it is counted anew: people unsubscribe and redeem meanwhile, though nobody changed the draft.
KEEPS_FOR = timedelta(minutes=5)
LEASE_SECONDS = 60


def ask_dry_run(message: Message, *, now: datetime, at: datetime | None = None) -> DryRun | None:
    """The dry run for `at` (now) of an audience too large to be counted at once, asked for unless it is already.

    None: it is small, or the draft is just deleted. Whoever asks something else begins it anew, and what is still
    counted for the question before is thrown away. Wake a worker while it has no `done_at`.
    """
    versions = roster_versions(message.release)
    members = Membership.objects.unended(now).filter(group__in=versions)
    if members[: AT_ONCE + 1].count() <= AT_ONCE:
        return None
    files = sorted(version.pk for version in versions_of(message.release))
    asked = [sorted(versions.items()), files, at.isoformat() if at and at > now else "now"]
    fresh = {
        "question": sha256(repr(asked).encode()).hexdigest(),
        "asked_at": now,
        "at": max(at or now, now),
        "people": None,
        "counts": {},
        "cursor": 0,
        "done_at": None,
        "attempts": 0,
        "not_before": None,
        "last_error": "",
    }
    with transaction.atomic():
        # Who deletes or confirms it locks it first, too.
        if not Message.objects.select_for_update(no_key=True).filter(pk=message.pk).exists():
            return None
        run, made = DryRun.objects.get_or_create(message=message, defaults=fresh)
        same = run.question == fresh["question"]
        if made or (same and (run.done_at is None or run.done_at > now - KEEPS_FOR)):
            return run
        DryRun.objects.filter(pk=run.pk).update(**fresh, lease_until=None, epoch=F("epoch") + 1)
        return DryRun.objects.get(pk=run.pk)


def count_dry_run(message_id: int, *, now: datetime) -> None:
    """Counted to the end, unless another worker holds it or somebody asks something else meanwhile.

    Killed, it goes on with the page after the last one that was committed, once its lease has lapsed.
    """
    run = DryRun.objects.select_related("message__release__creator").filter(pk=message_id).first()
    if run is None or run.done_at or take_lease(run, seconds=LEASE_SECONDS) is None:
        return
    message, groups = run.message, reached_groups(run.message.release)
    if run.people is None and not _write(run, people=everyone(message, now=run.asked_at).count()):
        return
    while run.done_at is None:
        until = next_stop(groups, after=run.cursor, page=PAGE)
        page = everyone(message, now=run.asked_at, at=run.at, after=run.cursor, until=until)
        counts = dict(Counter(run.counts) + Counter(count(page)))
        ends = {"cursor": until} if until is not None else {"done_at": now, "people": sum(counts.values())}
        if not _write(run, counts=counts, **ends):
            return


def _write(run: DryRun, **values: object) -> bool:
    """Whether `run` was still ours and has got these values."""
    with transaction.atomic():
        if not keep_lease(run, seconds=LEASE_SECONDS):
            return False
        DryRun.objects.filter(pk=run.pk).update(**values)
    for name, value in values.items():
        setattr(run, name, value)
    return True

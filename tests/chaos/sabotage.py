"""Each guard of sending and of other work taken out on purpose, in the worker's own process: the judge has to fail such a run."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.core.cache import cache

from distribution import tasks as giving
from distribution.models import Release
from groups.models import Import
from groups.services import applying
from library.services import uploads
from messaging import recipient_cap
from messaging.models import Delivery
from messaging.services import chain, chunks
from rows.work import Sweep
from tests.chaos.wrapping import swap


def _rewrite(*changes: tuple[str, str]) -> None:
    """The chained commit says something else."""
    for old, new in changes:
        if chain._STATEMENT.count(old) != 1:
            raise SystemExit(f"the chained commit does not say {old!r} once: this sabotage is out of date")
        chain._STATEMENT = chain._STATEMENT.replace(old, new)


def mark_before() -> None:
    """The intent says already that it was accepted: whoever dies before offering loses the mail."""
    _rewrite(("SET state = 'sending'", "SET state = 'accepted'"))


def mark_after() -> None:
    """No intent: only what was accepted is written. Whoever dies before that sends it again."""
    _rewrite(
        ("SET state = 'sending', attempts = attempts + 1", "SET state = 'planned', attempts = attempts + 1"),
        ("(delivery.state = 'sending'", "(delivery.state IN ('sending', 'planned')"),
    )


def no_fence() -> None:
    """Whoever took a chunk once believes to hold it for ever: neither the epoch nor the row's state is asked, neither
    by the commit between two waves nor by whoever looks again after a while."""
    _rewrite(
        ("WHERE id = %(chunk)s AND epoch = %(epoch)s AND state = 'open'", "WHERE id = %(chunk)s"),
        (
            "WHERE delivery.id = meant.id AND delivery.state = 'planned'",
            "WHERE delivery.id = meant.id",
        ),
    )

    def look_again(chunk: chunks.Chunk, *, now: datetime) -> frozenset[int]:
        return frozenset(Delivery.objects.of(chunk).values_list("pk", flat=True))

    swap(chunks.look_again, look_again)


def blind_retry() -> None:
    """What a lost worker was handing over is planned again."""

    def take_over(chunk: chunks.Chunk) -> None:
        Delivery.objects.of(chunk).filter(state=Delivery.State.SENDING).update(state=Delivery.State.PLANNED)

    swap(chunks.take_over, take_over)


def cap_in_cache() -> None:
    """How often an address was written to is counted in Redis, which may be emptied."""

    def charge(chunk: chunks.Chunk, *, creator_id: int, now: datetime) -> None:
        over = []
        due = Delivery.objects.of(chunk).due(now).filter(charged_at=None)
        for delivery in due:
            key = f"cap:{creator_id}:{delivery.address_key}"
            cache.add(key, 0, timeout=7 * 86_400)
            if cache.incr(key) > settings.RECIPIENT_CAP_CREATOR:
                over.append(delivery.pk)
        due.filter(pk__in=over).update(state=Delivery.State.HELD, reason=Delivery.Reason.CAP)
        due.filter(state=Delivery.State.PLANNED).update(charged_at=now)

    swap(recipient_cap.charge, charge)


def recall_unswept() -> None:
    """A recall whose worker was lost is nobody's."""
    giving.TAKING_BACK = _nothing_due(giving.TAKING_BACK)


def joiners_unswept() -> None:
    """Nobody looks for those who join later."""
    giving.WELCOMING = _nothing_due(giving.WELCOMING)


def bytes_unswept() -> None:
    """What was abandoned and what a worker could not tidy stays."""
    swap(uploads.forget_abandoned_uploads, lambda *, now: 0)


def import_unfenced() -> None:
    """Whoever took an import once believes to hold it for ever."""

    def keep_lease(row: Import, *, seconds: float) -> bool:
        return True

    applying.keep_lease = keep_lease  # type: ignore[assignment]


def _nothing_due(sweep: Sweep[Release]) -> Sweep[Release]:
    return replace(sweep, due=lambda now: Release.objects.none())


GUARDS: dict[str, Callable[[], None]] = {
    guard.__name__: guard
    for guard in (
        mark_before,
        mark_after,
        no_fence,
        blind_retry,
        cap_in_cache,
        recall_unswept,
        joiners_unswept,
        bytes_unswept,
        import_unfenced,
    )
}

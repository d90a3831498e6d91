"""How sending stands, in few numbers and fewer queries: for the metrics and for an operator at a terminal.

Each query reads a partial index, or rows of which there is one for each 1,000 mails, whatever lies behind them.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, F, Min, Q, Sum
from django.db.models.fields import IntegerField
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, Greatest

from accounts.models import Letter
from messaging import gate
from messaging.answers import answers
from messaging.models import Chunk, Delivery, Gate, Message, ProviderEvent
from rows.clock import DbNow

# What is older is nobody's news.
RECENT = timedelta(days=30)


@dataclass(frozen=True)
class Figures:
    """How sending stands at a moment. Ages are seconds, 0 where there is nothing."""

    locked: bool
    resting: bool
    # Since anybody last looked for mails to send; None: never.
    beat_age: float | None
    # The mail that could go and has waited longest.
    oldest_due_age: float
    running: int
    # Due or begun, and told to wait.
    waiting: int
    scheduled: int
    paused: int
    stalled: int
    # In doubt, of messages of the last 30 days.
    unknown: int
    # Chunks whose worker did not come back.
    leases_expired: int
    letters_waiting: int
    oldest_letter_age: float
    events_new: int
    events_held: int
    # By provider and kind.
    answers: dict[str, dict[str, int]] = field(default_factory=dict)


def figures(now: datetime) -> Figures:
    """The figures as of `now`. Writes nothing."""
    row = Gate.objects.first()
    messages, chunks, letters, events = _messages(now), _chunks(now), _letters(), _events()
    oldest = [moment for moment in (messages.pop("oldest"), chunks.pop("oldest")) if moment]
    return Figures(
        locked=bool(row and (row.locked_at or gate.is_elsewhere(row))),
        resting=bool(row and row.rests_until and row.rests_until > now),
        beat_age=_age(row.beaten_at, now) if row and row.beaten_at else None,
        oldest_due_age=_age(min(oldest, default=None), now),
        unknown=_unknown(now),
        letters_waiting=letters["waiting"],
        oldest_letter_age=_age(letters["oldest"], now),
        answers={provider: dict(kinds) for provider, kinds in answers().items()},
        **messages,
        **chunks,
        **events,
    )


def mails(now: datetime) -> dict[str, int]:
    """The mails of the last 30 days' messages, by state. From rows: a worker that was killed takes no number with it.

    Chunks that nobody holds have counted themselves; the others, a killed worker's among them, are counted anew.
    """
    recent = Chunk.objects.filter(message__started_at__gte=now - RECENT)
    sums = {str(state): Sum(Cast(KT(f"tally__{state}"), IntegerField())) for state in Delivery.State.values}
    counts = Counter(
        {state: number or 0 for state, number in recent.filter(lease_until=None).aggregate(**sums).items()}
    )
    for chunk in recent.filter(lease_until__isnull=False):
        counts.update(Delivery.objects.of(chunk).tally())
    return {state: counts[state] for state in Delivery.State.values if counts[state]}


def _messages(now: datetime) -> dict:  # type: ignore[type-arg]
    state = Message.State
    confirmed, running = Q(state=state.CONFIRMED), Q(state=state.RUNNING)
    may = Q(release__creator__paused_at=None)
    late = Q(due_at__lte=now)
    return Message.objects.filter(state__in=[state.CONFIRMED, state.RUNNING, state.PAUSED]).aggregate(
        running=Count("pk", filter=running & late),
        waiting=Count("pk", filter=(running & ~late) | (confirmed & ~late & ~Q(waits_because=""))),
        scheduled=Count("pk", filter=confirmed & ~late & Q(waits_because="")),
        paused=Count("pk", filter=Q(state=state.PAUSED)),
        stalled=Count("pk", filter=Q(stalled_at__isnull=False)),
        oldest=Min("due_at", filter=confirmed & late & may),
    )


def _chunks(now: datetime) -> dict:  # type: ignore[type-arg]
    # Not beyond the message's own time: one that had to wait for days is not days late.
    since = Greatest(Coalesce("not_before", "message__started_at"), F("message__started_at"))
    ready = Q(not_before=None) | Q(not_before__lte=now)
    due = Q(message__state=Message.State.RUNNING, message__due_at__lte=now)
    may = Q(message__release__creator__paused_at=None)
    return Chunk.objects.filter(state=Chunk.State.OPEN).aggregate(
        leases_expired=Count("pk", filter=Q(lease_until__lt=DbNow())),
        oldest=Min(since, filter=ready & due & may),
    )


def _unknown(now: datetime) -> int:
    doubtful = Chunk.objects.filter(tally__has_key="unknown", message__started_at__gte=now - RECENT)
    return doubtful.aggregate(all=Sum(Cast(KT("tally__unknown"), IntegerField())))["all"] or 0


def _letters() -> dict:  # type: ignore[type-arg]
    return Letter.objects.filter(state=Letter.State.WAITING).aggregate(
        waiting=Count("pk"), oldest=Min("created_at")
    )


def _events() -> dict[str, int]:
    state = ProviderEvent.State
    return {
        "events_new": ProviderEvent.objects.filter(state=state.NEW).count(),
        "events_held": ProviderEvent.objects.filter(state=state.HELD).count(),
    }


def _age(moment: datetime | None, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds()) if moment else 0.0

"""How far a message is, cheaply: chunks count themselves, only those in work are counted anew."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import BigIntegerField, Q, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from distribution.models import Release
from messaging import gate
from messaging.models import Chunk, Delivery, Message
from messaging.services.stalls import standstill

# Enough named ranges for any page; beyond that a message has other worries.
RANGES = 100
# What became of mails that left us.
OFFERED = ("accepted", "delivered", "bounced", "complained", "failed", "unknown")


@dataclass(frozen=True)
class Progress:
    """A message in numbers. `counts` is by delivery state and always adds up to `total`."""

    # draft, scheduled, giving, preparing, waiting (for a time), shut (for everybody), sending, paused, done, cancelled
    stage: str
    counts: dict[str, int]
    total: int
    # Offered or left out: what needs no more work.
    finished: int
    # Offered: told, refused, or in doubt.
    offered: int
    # Mails a minute since it started; None before anything was offered.
    rate: float | None
    time_left: timedelta | None
    # Why it does not go on, in words; once it is done, why no mail went out.
    waits_because: str

    @property
    def percent(self) -> int:
        return 100 * self.finished // self.total if self.total else 0


def progress(message: Message, *, now: datetime) -> Progress:
    """How far `message` is. Adds up a row for each 1,000 mails, and the deliveries of chunks in work."""
    counts = tallied([message.pk])[message.pk]
    for chunk in message.chunks.filter(lease_until__isnull=False):
        counts.update(Delivery.objects.of(chunk).tally())
    total = sum(counts.values())
    waiting = counts[Delivery.State.PLANNED] + counts[Delivery.State.SENDING]
    offered = sum(counts[state] for state in OFFERED)
    rate, time_left = None, None
    if message.started_at and offered:
        seconds = max(1.0, ((message.done_at or now) - message.started_at).total_seconds())
        rate = offered / seconds * 60
        time_left = timedelta(seconds=round(waiting / rate * 60)) if waiting else None
    stage = _stage(message, now)
    return Progress(
        stage=stage,
        counts=dict(counts),
        total=total,
        finished=total - waiting,
        offered=offered,
        rate=rate,
        time_left=time_left if stage == "sending" else None,
        waits_because=_because(message, stage, now),
    )


def tallied(messages: Iterable[int], *, leased: bool = False) -> dict[int, Counter[str]]:
    """The sums of what the chunks of each message count, by its id: one query, which the database adds up.

    Those in work are left out unless `leased` takes them as they were.
    """
    chunks = Chunk.objects.filter(message__in=list(messages))
    chunks = chunks if leased else chunks.filter(lease_until=None)
    sums = {
        f"all_{state}": Sum(Cast(KT(f"tally__{state}"), BigIntegerField())) for state in Delivery.State.values
    }
    rows = chunks.order_by().values_list("message").annotate(**sums)
    states = Delivery.State.values
    found: dict[int, Counter[str]] = defaultdict(Counter)
    found |= {
        pk: Counter({state: number for state, number in zip(states, numbers, strict=True) if number})
        for pk, *numbers in rows
    }
    return found


def deliveries_in(message: Message, *states: str) -> QuerySet[Delivery]:
    """The deliveries of `message` in one of `states`, with their contacts.

    No index holds a state (every mail would pay for it), so the chunks' counts say where to look.
    """
    rows = Delivery.objects.filter(message=message, state__in=states)
    rows = rows.select_related("contact").order_by("contact")
    found = message.chunks.filter(Q(tally__has_any_keys=states) | Q(lease_until__isnull=False))
    ranges = list(found.values_list("after", "until")[: RANGES + 1])
    if len(ranges) > RANGES:
        return rows
    within = Q(pk__in=[])
    for after, until in ranges:
        within |= Q(contact__gt=after, contact__lte=until)
    return rows.filter(within)


def next_deliveries(
    rows: QuerySet[Delivery], message: Message, *states: str, after: int | None, downwards: bool, number: int
) -> list[Delivery]:
    """The first `number` of `rows`, deliveries of `message` in one of `states`, by contact from `after` on.

    No index holds a state, so the chunks' counts say where to look: a few rows are found among a million.
    """
    rows = rows.filter(message=message, state__in=states).order_by(
        "-contact_id" if downwards else "contact_id"
    )
    chunks = message.chunks.filter(Q(tally__has_any_keys=states) | Q(lease_until__isnull=False))
    chunks = chunks.order_by("-number" if downwards else "number")
    if after is not None:
        rows = rows.filter(contact_id__lt=after) if downwards else rows.filter(contact_id__gt=after)
        chunks = chunks.filter(after__lt=after) if downwards else chunks.filter(until__gt=after)
    found: list[Delivery] = []
    within, expected, begun = Q(pk__in=[]), 0, 0
    while some := list(chunks.values_list("after", "until", "tally")[begun : begun + RANGES]):
        for first, last, tally in some:
            within |= Q(contact_id__gt=first, contact_id__lte=last)
            expected += sum(tally.get(state, 0) for state in states)
            if len(found) + expected >= number:
                found += rows.filter(within)[: number - len(found)]
                within, expected = Q(pk__in=[]), 0
            if len(found) >= number:
                return found
        # A chunk in work says nothing reliable: it is looked through with those around it.
        found += rows.filter(within)[: number - len(found)]
        within, expected, begun = Q(pk__in=[]), 0, begun + RANGES
    return found[:number]


def unknown_deliveries(message: Message) -> QuerySet[Delivery]:
    """Those that may or may not have arrived: by name, never sent again by themselves."""
    return deliveries_in(message, Delivery.State.UNKNOWN)


def _stage(message: Message, now: datetime) -> str:
    state = Message.State
    if message.state in (state.DRAFT, state.DONE, state.CANCELLED, state.PAUSED):
        return str(message.state)
    if message.release.creator.paused_at:
        return "paused"
    if message.waits_because and message.due_at and message.due_at > now:
        return "waiting"
    if message.state == state.RUNNING:
        return "shut" if gate.shut_because(now) else "sending"
    if message.due_at and message.due_at > now:
        return "scheduled"
    return "preparing" if message.release.state == Release.State.PUBLISHED else "giving"


def _because(message: Message, stage: str, now: datetime) -> str:
    creator = message.release.creator
    if stage == "paused" and creator.paused_at:
        asked = _("Sending is paused for your studio. Write to the people who run this site.")
        return f"{creator.paused_because} {asked}".strip()
    if stage == "paused" and message.waits_because and not message.started_at:
        return message.waits_because
    if stage == "paused":
        return _("Somebody of your studio paused it. Nothing more goes out until it is resumed.")
    if stage == "shut":
        return gate.shut_because(now)
    waits_because = message.waits_because if stage in ("waiting", "done") else ""
    return f"{waits_because} {standstill(message)}".strip()

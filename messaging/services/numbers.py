"""How far a message is, cheaply: chunks count themselves, only those in work are counted anew."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from distribution.models import Release
from messaging import gate
from messaging.models import Delivery, Message
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
    """How far `message` is. Reads a row for each 1,000 mails, and the deliveries of chunks in work."""
    counts: Counter[str] = Counter()
    for chunk in message.chunks.all():
        counts.update(Delivery.objects.of(chunk).tally() if chunk.lease_until else chunk.tally)
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

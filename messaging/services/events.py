"""What providers say became of our mails: kept once, then applied, in whatever order and however late it came (M10)."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max, Q
from django.db.models.functions import Greatest
from django.utils.translation import gettext as _

from accounts.models import Suppression, User
from accounts.services import alarm, record
from messaging import breakers
from messaging.models import Chunk, Delivery, Message, ProviderEvent
from messaging.providers.hooks import Told
from messaging.services.silencing import silence
from messaging.services.tallies import recount

Kind, State = ProviderEvent.Kind, ProviderEvent.State

BATCH = 1000
# A call ends after so many, and the next sweep goes on: others wait for their turn too.
BATCHES = 20
# So many addresses may be silenced by events in any hour, or this part of the mails that were taken in a day if that
# is more: the part at which a message's own bounces stop its creator (M7).
SILENCED_ANYWAY = 100
SILENCED_PART = 0.05
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# What an event makes of a delivery, and from where: never back, and never out of a state that no offer led to. A mail
# in doubt is settled by any of them: the provider has it.
_BECOMES = {
    Kind.ACCEPTED: Delivery.State.ACCEPTED,
    Kind.DELIVERED: Delivery.State.DELIVERED,
    Kind.REFUSED: Delivery.State.FAILED,
    Kind.BOUNCED: Delivery.State.BOUNCED,
    Kind.COMPLAINED: Delivery.State.COMPLAINED,
}
# A filter's refusal may come after the receiving side has taken the mail: it is not delivered then.
_RANK = {
    Delivery.State.SENDING: 0,
    Delivery.State.UNKNOWN: 0,
    Delivery.State.ACCEPTED: 1,
    Delivery.State.DELIVERED: 2,
    Delivery.State.FAILED: 3,
    Delivery.State.BOUNCED: 4,
    Delivery.State.COMPLAINED: 5,
}
_SILENCES = {
    Kind.BOUNCED: Suppression.Reason.BOUNCE,
    Kind.COMPLAINED: Suppression.Reason.COMPLAINT,
}


def take_events(provider: str, told: Sequence[Told], *, now: datetime) -> None:
    """Each of them is kept, to be applied. Twice, or another one under the same id: the first stays.

    One that names a delivery by our Message-ID is believed only with the whole of it, which nobody guesses.
    """
    named = [one.delivery or 0 for one in told if one.request]
    requests = dict(Delivery.objects.filter(pk__in=named).values_list("pk", "message__request_id"))
    events = [
        ProviderEvent(
            provider=provider,
            event_id=one.event_id,
            kind=one.kind,
            at=_moment(one.at, now),
            address_key=one.address,
            delivery=one.delivery if not one.request or _proved(one, requests) else None,
            said=one.said,
            raw=one.raw,
            received_at=now,
        )
        # In one order, so that two who post the same never wait for each other.
        for one in sorted(told, key=lambda one: one.event_id)
    ]
    ProviderEvent.objects.bulk_create(events, ignore_conflicts=True, batch_size=BATCH)


def apply_events(*, now: datetime) -> int:
    """How many events were applied, were nobody's, or were held back; a sweep calls it.

    Afterwards each delivery is in the furthest state that any event of it says, whatever their order, and its
    message counts it once. Who bounced for good or complained is not written to any more, unless that silences too
    many within an hour: then the event is held and an operator told. Twice, or two at once: each counts once.
    """
    done, after = 0, 0
    for _round in range(BATCHES):
        waiting = ProviderEvent.objects.filter(state=State.NEW, pk__gt=after).order_by("pk")[:BATCH]
        chosen = list(waiting.values_list("pk", flat=True))
        if not chosen:
            break
        after = chosen[-1]
        done += _apply(chosen, State.NEW, now=now)
    return done


def release_events(events: Iterable[int], *, by: User, now: datetime) -> int:
    """The held ones of `events` are applied, however many addresses that silences. Returns how many.

    Twice: nothing is held any more.
    """
    ids = _held(events)
    done = sum(_apply(ids[at : at + BATCH], State.HELD, now=now) for at in range(0, len(ids), BATCH))
    if done:
        record(by, "released events", str(done), now=now)
    return done


def discard_events(events: Iterable[int], *, by: User, now: datetime) -> int:
    """The held ones of `events` never have any effect. Returns how many. Twice: nothing is held any more."""
    ids = _held(events)
    done = 0
    for at in range(0, len(ids), BATCH):
        with transaction.atomic():
            some = _locked(ids[at : at + BATCH], State.HELD)
            done += ProviderEvent.objects.filter(pk__in=[event.pk for event in some]).update(
                state=State.DISCARDED
            )
    if done:
        record(by, "discarded events", str(done), now=now)
    return done


def forget_events(*, now: datetime) -> int:
    """How many events that are older than they are kept (A5) went. Twice: they are gone."""
    until = now - timedelta(days=settings.EVENTS_KEEP_DAYS)
    # Ids grow with time, so no index has to know the time.
    oldest_first = ProviderEvent.objects.order_by("pk")
    oldest = oldest_first.values_list("received_at", flat=True).first()
    if oldest is None or oldest >= until:
        return 0
    some = list(oldest_first.values_list("pk", flat=True)[: 10 * BATCH])
    return ProviderEvent.objects.filter(pk__in=some, received_at__lt=until).delete()[0]


@dataclass
class _Batch:
    """Events of one state with the deliveries they name, both locked."""

    events: list[ProviderEvent]
    deliveries: dict[int, Delivery]
    # Deliveries that a worker is just writing: their events wait for the next sweep.
    busy: set[int]
    held: set[int] = field(default_factory=set)
    nobodys: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.events = [event for event in self.events if event.delivery not in self.busy]
        self.nobodys = {
            event.pk for event in self.events if event.kind != Kind.OTHER and not self._is_ours(event)
        }

    @property
    def ids(self) -> set[int]:
        return {event.pk for event in self.events}

    def _is_ours(self, event: ProviderEvent) -> bool:
        """Whether it is about a mail that was offered to the very address it names."""
        delivery = self.deliveries.get(event.delivery or 0)
        return delivery is not None and bool(
            delivery.offered_at and event.address_key and delivery.address_key == event.address_key
        )

    def silences(self, event: ProviderEvent) -> bool:
        """Whether its address may have to be silenced: not for the echo of what its delivery has been through."""
        delivery = self.deliveries.get(event.delivery or 0)
        return (
            event.kind in _SILENCES
            and delivery is not None
            and delivery.state != _BECOMES[ProviderEvent.Kind(event.kind)]
        )

    @property
    def standing(self) -> list[ProviderEvent]:
        """Those that are about a mail of ours and are not held back."""
        out = self.held | self.nobodys
        return [event for event in self.events if event.kind in _BECOMES and event.pk not in out]


def _apply(ids: Collection[int], state: ProviderEvent.State, *, now: datetime) -> int:
    """Applies those of `ids` that are in `state`. How many of them are done with.

    What is counted afterwards may be counted twice, so the events are marked last: a worker killed before that
    leaves them to the next, who finds nothing left to change.
    """
    with transaction.atomic():
        batch = _lock(ids, state)
        if state == State.NEW:
            _hold_back(batch, now)
        else:
            # They have their effect from here on: nobody can discard them any more.
            ProviderEvent.objects.filter(pk__in=batch.ids).update(state=State.NEW)
        _silence(batch, now)
        counted = _advance(batch)
    contacts = defaultdict(set)
    for event in batch.standing:
        delivery = batch.deliveries[event.delivery or 0]
        contacts[delivery.message_id].add(delivery.contact_id)
    for message_id in contacts:
        recount(message_id, contacts[message_id])
    for message in Message.objects.filter(pk__in=counted).select_related("release__creator"):
        breakers.check(message, now=now)
    with transaction.atomic():
        fresh = {event.pk for event in _locked(batch.ids - batch.held, State.NEW)}
        ours = ProviderEvent.objects.filter(pk__in=fresh - batch.nobodys)
        marked = ours.update(state=State.APPLIED)
        nobodys = ProviderEvent.objects.filter(pk__in=fresh & batch.nobodys)
        marked += nobodys.update(state=State.DISCARDED)
    return marked + len(batch.held) if state == State.NEW else len(batch.ids)


def _locked(ids: Collection[int], state: ProviderEvent.State) -> list[ProviderEvent]:
    """Those of `ids` that are in `state`, which nobody else changes now.

    Always taken by their ids, so that two sweeps never wait for each other: an UPDATE of many takes them as they lie.
    """
    chosen = ProviderEvent.objects.filter(pk__in=ids, state=state).order_by("pk")
    return list(chosen.select_for_update(no_key=True).defer("raw"))


def _lock(ids: Collection[int], state: ProviderEvent.State) -> _Batch:
    """Events first, then messages, then deliveries: those alone that no worker writes, so nobody waits for anybody."""
    events = _locked(ids, state)
    named = {event.delivery for event in events if event.delivery and event.kind != Kind.OTHER}
    messages = dict(Delivery.objects.filter(pk__in=named).values_list("pk", "message_id"))
    list(
        Message.objects.filter(pk__in=set(messages.values()))
        .order_by("pk")
        .select_for_update(no_key=True)
        .values_list("pk")
    )
    free = Delivery.objects.filter(pk__in=list(messages)).order_by("pk")
    deliveries = {delivery.pk: delivery for delivery in free.select_for_update(no_key=True, skip_locked=True)}
    return _Batch(events, deliveries, busy=messages.keys() - deliveries.keys())


def _hold_back(batch: _Batch, now: datetime) -> None:
    """Events that would silence more addresses than may be in an hour are held, and an operator is told."""
    silencing = _silencing(batch)
    fresh = {event.address_key for event in silencing} - _silent({event.address_key for event in silencing})
    room = _room(len(fresh), now) if fresh else 0
    if len(fresh) <= room:
        return
    let_through: set[str] = set()
    for event in silencing:
        if event.address_key in fresh - let_through:
            if len(let_through) < room:
                let_through.add(event.address_key)
            else:
                batch.held.add(event.pk)
    ProviderEvent.objects.filter(pk__in=batch.held).update(state=State.HELD)
    alarm(
        _("Events from the mail provider are held back"),
        _(
            "Within an hour more addresses came back or complained than may be silenced by themselves. The rest is "
            "held: look at it in the administration, under provider events, and release or discard it."
        ),
        dedupe_key=f"events held {now:%Y-%m-%d %H}",
        now=now,
    )


def _room(wanted: int, now: datetime) -> int:
    """How many more addresses events may silence now. The mails of the last day are counted only if it matters."""
    used = ProviderEvent.objects.filter(suppressed_at__gt=now - HOUR).count()
    if used + wanted <= SILENCED_ANYWAY:
        return SILENCED_ANYWAY - used
    return max(0, max(SILENCED_ANYWAY, int(SILENCED_PART * _taken_in_a_day(now))) - used)


def _taken_in_a_day(now: datetime) -> int:
    """About how many mails were taken since yesterday: what the chunks of the messages of that time count."""
    day_ago = now - DAY
    moved = Message.objects.filter(Q(started_at__gt=day_ago) | Q(moved_at__gt=day_ago))
    tallies = Chunk.objects.filter(message__in=moved).values_list("tally", flat=True)
    state = Delivery.State
    taken = (state.ACCEPTED, state.DELIVERED, state.BOUNCED, state.COMPLAINED)
    return sum(tally.get(one, 0) for tally in tallies.iterator() for one in taken)


def _silence(batch: _Batch, now: datetime) -> None:
    """Whose address is not there or who complained is not written to; the event that did it says so."""
    first: dict[str, ProviderEvent] = {}
    for event in _silencing(batch):
        first.setdefault(event.address_key, event)
    for address in sorted(first.keys() - _silent(first)):
        event = first[address]
        message_id = batch.deliveries[event.delivery or 0].message_id
        silence(address, _SILENCES[Kind(event.kind)], message_id=message_id, now=now)
        ProviderEvent.objects.filter(pk=event.pk).update(suppressed_at=now)


def _silencing(batch: _Batch) -> list[ProviderEvent]:
    """Those that silence their address: not again for what was known, nor for what was before the silence was lifted."""
    events = [event for event in batch.standing if batch.silences(event)]
    over = Suppression.objects.filter(address_key__in={event.address_key for event in events})
    over = over.filter(lifted_at__isnull=False)
    lifted = dict(over.values_list("address_key").annotate(last=Max("lifted_at")).order_by())
    return [
        event for event in events if event.address_key not in lifted or event.at > lifted[event.address_key]
    ]


def _silent(addresses: Collection[str]) -> set[str]:
    live = Suppression.objects.live().filter(address_key__in=addresses)
    return set(live.values_list("address_key", flat=True))


def _advance(batch: _Batch) -> set[int]:
    """Every delivery is as far as its events say, and its message counts it. Those messages that count more."""
    changed: dict[int, Delivery] = {}
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for event in batch.standing:
        delivery, state = batch.deliveries[event.delivery or 0], _BECOMES[Kind(event.kind)]
        if _RANK.get(Delivery.State(delivery.state), 9) >= _RANK[state]:
            continue
        counts[delivery.message_id][state] += 1
        counts[delivery.message_id][delivery.state] -= 1
        delivery.state = state
        delivery.reason = (
            event.said if state not in (Delivery.State.ACCEPTED, Delivery.State.DELIVERED) else ""
        )
        changed[delivery.pk] = delivery
    plain = [delivery.pk for delivery in changed.values() if not delivery.reason]
    for state in set(_BECOMES.values()):
        same = [pk for pk in plain if changed[pk].state == state]
        Delivery.objects.filter(pk__in=same).update(state=state, reason="")
    with_words = [delivery for delivery in changed.values() if delivery.reason]
    for delivery in with_words:
        # Of the mail system that took it from us: not of the one that speaks here.
        delivery.smtp_code = None
    Delivery.objects.bulk_update(with_words, ["state", "reason", "smtp_code"])
    for message_id, count in counts.items():
        # One that bounced and then was complained about is complained about, whichever came first.
        Message.objects.filter(pk=message_id).update(
            bounced=Greatest(F("bounced") + count[Delivery.State.BOUNCED], 0),
            complained=F("complained") + count[Delivery.State.COMPLAINED],
        )
    return {
        pk
        for pk, count in counts.items()
        if count[Delivery.State.BOUNCED] or count[Delivery.State.COMPLAINED]
    }


def _held(events: Iterable[int]) -> list[int]:
    return list(
        ProviderEvent.objects.filter(pk__in=list(events), state=State.HELD)
        .order_by("pk")
        .values_list("pk", flat=True)
    )


def _proved(told: Told, requests: Mapping[int, object]) -> bool:
    request = requests.get(told.delivery or 0)
    return getattr(request, "hex", None) == told.request


def _moment(at: datetime | None, now: datetime) -> datetime:
    """When it happened. What is yet to come, long past or without a zone happened now."""
    kept = timedelta(days=settings.EVENTS_KEEP_DAYS)
    return at if at and at.tzinfo and now - kept < at < now else now

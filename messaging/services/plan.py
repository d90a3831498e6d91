"""From grants to deliveries: who is mailed, who is not and why, in chunks that workers take one by one."""

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import CharField, Max, Q, QuerySet, Value, Window
from django.db.models.functions import Cast, Concat, Mod, RowNumber
from django.utils.translation import gettext as _

from distribution.models import Grant, Release
from groups.models import Group
from messaging import gate, throttle
from messaging.models import Chunk, Delivery, Message
from messaging.services.outcome import STATE_OF_REASON, with_outcome
from messaging.services.source import grants_to_tell
from messaging.services.tallies import count_held
from rows.clock import db_now
from rows.lease import take_lease
from rows.sets import insert_from
from rows.statistics import renew_statistics

log = logging.getLogger(__name__)

PAGE = 10_000
CHUNK = 1_000
LEASE_SECONDS = 30


class LeaseLost(Exception):
    """Another worker plans this message; nothing of this page is written."""


# --- planning -------------------------------------------------------------------------------------------


def plan_deliveries(message_id: int, *, now: datetime, page: int = PAGE) -> bool:
    """Every grant that the message tells of has a delivery, each in a chunk, and the counts were verified.

    Pages of grants by contact, each a transaction with its cursor under the message's lease; then whoever is still
    missing, until nobody is. Killed anywhere, the next call goes on after the last page and plans nobody twice.
    Grants that come later (late joiners) are not mailed. Returns whether this call completed it: False when it is
    not due, not granted yet, planned already or in another worker's hands.
    """
    given = Q(release__state=Release.State.PUBLISHED) | Q(kind=Message.Kind.DIGEST)
    due = Message.objects.due(now).filter(given, planned_at=None)
    message = due.select_related("release__creator").filter(pk=message_id).first()
    if message is None or take_lease(message, seconds=LEASE_SECONDS) is None:
        return False
    message.refresh_from_db(fields=["cursor"])
    try:
        _plan_pages(message, page)
        while _plan_missing(message, page):
            _plan_pages(message, page)
        with transaction.atomic():
            tallied = sum(sum(tally.values()) for tally in message.chunks.values_list("tally", flat=True))
            planned = Delivery.objects.filter(message=message).count()
            _ours(message, planned=planned, planned_at=now, lease_until=None)
    except LeaseLost:
        return False
    renew_statistics(Delivery, rows=planned)
    count_held(message.pk)
    if tallied != planned:
        log.error("message %s: %s deliveries, but its chunks count %s", message.pk, planned, tallied)
    return True


def begin_sending(message_id: int, *, now: datetime) -> bool:
    """A planned message that is due uses its slots, and its chunks may be opened. Returns whether it runs now.

    If a group has had its messages meanwhile (this one is late, others were too), it waits for the next possible
    time and says so; the grants are there already. If nobody is to be mailed it is done at once, says why, and its
    slots are free again (M2). Nor does it run while this site may not send. Twice: nothing changes.
    """
    if gate.shut_because(now):
        return False
    with transaction.atomic():
        planned = Message.objects.due(now).filter(state=Message.State.CONFIRMED, planned_at__isnull=False)
        message = planned.select_for_update(no_key=True, of=("self",)).filter(pk=message_id).first()
        if message is None:
            return False
        if not message.chunks.filter(tally__has_key=Delivery.State.PLANNED).exists():
            _end_untold(message, now)
            return False
        found = _use_slots(message, now)
        if found.allowed:
            message.state, message.started_at, message.waits_because = Message.State.RUNNING, now, ""
        else:
            message.due_at, message.waits_because = found.next_at, found.reason
        message.save(update_fields=["state", "started_at", "due_at", "waits_because"])
    return found.allowed


def _end_untold(message: Message, now: datetime) -> None:
    """The message is done with no mail offered: as the audience turned out, there is nobody to mail now."""
    unsent = Delivery.objects.filter(message=message)
    if unsent.filter(state=Delivery.State.HELD).exists():
        because = _(
            "No mail of its own went out: whoever it is for asked for one mail a week, and is told in that."
        )
    elif unsent.filter(reason=Delivery.Reason.HOLDS_ALL).exists():
        because = _("No mail went out: everybody who can be written to holds all of it already.")
    else:
        because = _("No mail went out: nobody it is for can be written to, or needs to be.")
    throttle.give_back(message, now=now)
    Chunk.objects.filter(message=message).update(state=Chunk.State.DONE)
    message.state, message.started_at, message.done_at = Message.State.DONE, now, now
    message.waits_because = f"{because} {_('It used none of your messages.')}"
    message.save(update_fields=["state", "started_at", "done_at", "waits_because"])


def _use_slots(message: Message, now: datetime) -> throttle.Verdict:
    """A digest charges nobody's slot: it goes to each person once a week at most."""
    if message.kind == Message.Kind.DIGEST:
        return throttle.Verdict(True, "", now)
    return throttle.use(message, audience_groups(message.release), now=now)


def audience_groups(release: Release) -> list[Group]:
    """The groups a release names."""
    return [row.group for row in release.audience_rows.select_related("group__creator", "group__parent")]


def _plan_pages(message: Message, page: int) -> None:
    for end in _page_ends(message, page):
        within = {"contact__gt": message.cursor, "contact__lte": end}
        with transaction.atomic():
            # First: a worker that lost the lease waits here or fails, and never inserts against the one that has it.
            _ours(message, lease_until=db_now() + timedelta(seconds=LEASE_SECONDS), cursor=end)
            _insert(message, **within)
            _cut_chunks(message, after=message.cursor, until=end)
        message.cursor = end


def _page_ends(message: Message, page: int) -> list[int]:
    """The contacts at which the pages that are left end: every `page`th who is told, and the last.

    One query for all: right after a million rows were written the statistics know none of them, and asked page by
    page the database would sort all that are left, each time.
    """
    left = grants_to_tell(message, contact__gt=message.cursor)
    numbered = left.annotate(over=Mod(Window(RowNumber(), order_by="contact"), page))
    ends = list(numbered.filter(over=0).order_by("contact").values_list("contact_id", flat=True))
    last: int | None = left.aggregate(last=Max("contact"))["last"]
    if last is not None and last not in ends[-1:]:
        ends.append(last)
    return ends


def _plan_missing(message: Message, page: int) -> int:
    """Whoever was granted behind the cursor, and whose address somebody else had when it was planned."""
    added = 0
    for ids in _missing(message, page):
        with transaction.atomic():
            _ours(message, lease_until=db_now() + timedelta(seconds=LEASE_SECONDS))
            _insert(message, contact__in=ids)
            told = Delivery.objects.filter(message=message, contact__gte=ids[0], contact__lte=ids[-1])
            doubled = set(ids).difference(told.values_list("contact_id", flat=True))
            _insert_doubled(message, grants_to_tell(message, contact__in=doubled))
            for chunk in _chunks_holding(message, ids):
                Chunk.objects.filter(pk=chunk.pk).update(tally=Delivery.objects.of(chunk).tally())
        added += len(ids)
    return added


def _missing(message: Message, page: int) -> Iterator[list[int]]:
    """The contacts behind the cursor who have a grant and no delivery, in order, page by page.

    Two ranges of an index, compared here and not by an anti-join: right after a million rows were written the
    database's statistics know none of them, and it would walk all of them for each.
    """
    after = 0
    while ids := _told_after(message, after, page):
        planned = Delivery.objects.filter(message=message, contact__gt=after, contact__lte=ids[-1])
        without = set(ids).difference(planned.values_list("contact_id", flat=True))
        if without:
            yield sorted(without)
        after = ids[-1]


def _told_after(message: Message, after: int, page: int) -> list[int]:
    grants = grants_to_tell(message, contact__gt=after, contact__lte=message.cursor).order_by("contact")
    return list(grants.values_list("contact_id", flat=True)[:page])


def _insert(message: Message, **within: Any) -> None:
    """A delivery for each grant to the contacts `within`, planned or, where there is a reason, what that comes to.

    The state follows from the reason, so the database is asked for the reason alone: the questions behind it are a
    third of planning.
    """
    release = message.release
    grants = grants_to_tell(message, **within)
    people = with_outcome(grants, release, before=release.as_of, contact="contact__", kind=message.kind)
    insert_from(
        people.values_list(
            Value(message.pk),
            "pk",
            "contact_id",
            "contact__address_key",
            Value(Delivery.State.PLANNED),
            "reason",
            Value(0),
        ),
        Delivery,
        ["message", "grant", "contact", "address_key", "state", "reason", "attempts"],
    )
    unsent = Delivery.objects.filter(message=message, state=Delivery.State.PLANNED, **within)
    unsent.exclude(reason="").update(state=STATE_OF_REASON)


def _insert_doubled(message: Message, grants: QuerySet[Grant]) -> None:
    """An address that passed from one contact to another while we planned is written to once; this says so."""
    insert_from(
        grants.values_list(
            Value(message.pk),
            "pk",
            "contact_id",
            Concat(Value("#"), Cast("contact_id", CharField())),
            Value(Delivery.State.SKIPPED),
            Value(Delivery.Reason.SAME_ADDRESS),
        ),
        Delivery,
        ["message", "grant", "contact", "address_key", "state", "reason"],
    )


def _cut_chunks(message: Message, *, after: int, until: int) -> None:
    rows = Delivery.objects.filter(message=message, contact__gt=after, contact__lte=until)
    states = list(rows.order_by("contact").values_list("contact_id", "state"))
    number = message.chunks.count()
    chunks = []
    for cut in (states[at : at + CHUNK] for at in range(0, len(states) or 1, CHUNK)):
        last = cut[-1][0] if cut else until
        tally = dict(Counter(state for _contact, state in cut))
        chunks.append(Chunk(message=message, number=number, after=after, until=last, tally=tally))
        number, after = number + 1, last
    # Whoever is found missing later has a chunk to fall into.
    chunks[-1].until = until
    Chunk.objects.bulk_create(chunks)


def _chunks_holding(message: Message, contacts: Sequence[int]) -> list[Chunk]:
    chunks = list(message.chunks.order_by("number"))
    ends = [chunk.until for chunk in chunks]
    return [chunks[at] for at in sorted({bisect_left(ends, contact) for contact in contacts})]


def _ours(message: Message, **changes: Any) -> None:
    """Changes the message, if the lease is still ours. Raises `LeaseLost`."""
    if not Message.objects.filter(pk=message.pk, epoch=message.epoch).update(**changes):
        raise LeaseLost

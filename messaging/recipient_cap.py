"""The recipient's cap (M4): how often one address may be written to. Only this module touches RecentMail.

The rule: in any rolling 7 days an address gets at most RECIPIENT_CAP_CREATOR mails from one creator, and at most
RECIPIENT_CAP_SITE from everybody here. Windows are half-open, as the throttle's: exactly 7 days apart is far enough.

A row keeps the last so many times, newest first, in the order in which they were charged. A further mail is legal
if they are fewer than the cap, or if the cap-th of them is 7 days old; then it takes that one's place. So the mails to
an address fall into as many chains as the cap is large, with 7 days from link to link, and no window holds two of one
chain. That needs no clock but the one that asks: workers whose clocks disagree cannot overfill a window.

One statement judges and charges a chunk, so nobody reads a room that somebody else has just taken. It takes the rows
in the order of their keys, the creator's before the installation's: two of them never wait for each other.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import Case, Exists, F, OuterRef, QuerySet, Value, When
from django.db.models.functions import Concat, StrIndex, Substr

from messaging.models import Chunk, Delivery, Message, RecentMail
from rows.sets import among

WINDOW = timedelta(days=7)
# The sender of the row that counts everybody's mails.
SITE = 0
# A space and thirteen digits.
BLOCK = 14
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@transaction.atomic
def charge(chunk: Chunk, *, creator_id: int, now: datetime) -> None:
    """Each planned mail of `chunk` that may go now is charged to its address, or it waits for the digest.

    One of a digest that is over the cap is skipped: the next digest tells them. A mail that was charged when the chunk
    was opened before is not charged again: its charge moves to `now`, as it counts when it goes. Only if its old
    charge has lapsed it is judged anew. Twice: the same. Part of the transaction that opens the chunk.
    """
    due = Delivery.objects.of(chunk).due(now)
    charged = due.filter(charged_at__isnull=False).values_list("address_key", "charged_at")
    before = [(address, at) for address, at in charged if at]
    if before:
        due.update(charged_at=None)
    by_creator = _let(creator_id, due, due, before, now)
    let = _let(SITE, due.filter(among("address_key", by_creator)), due, before, now)
    _forget(creator_id, [(address, now) for address in by_creator - let])
    due.filter(among("address_key", let)).update(charged_at=now)
    over = Delivery.State.SKIPPED if chunk.message.kind == Message.Kind.DIGEST else Delivery.State.HELD
    due.filter(charged_at=None).update(state=over, reason=Delivery.Reason.CAP)


@transaction.atomic
def give_back(deliveries: QuerySet[Delivery], *, creator_id: int) -> None:
    """`deliveries` of that creator are charged to nobody: they were cancelled, or told in another mail.

    Twice: nothing changes. For mails that were never taken; whoever got one has had it.
    """
    charged = deliveries.filter(charged_at__isnull=False).order_by("pk")
    # Under lock: of two giving back the same, the second finds nothing.
    rows = list(charged.select_for_update(no_key=True, of=("self",)))
    addresses = {row.address_key for row in rows}
    for sender in (creator_id, SITE):
        theirs = RecentMail.objects.filter(among("address_key", addresses), sender=sender)
        list(theirs.order_by("address_key").select_for_update(no_key=True).values_list("pk"))
        # Message by message: two may have been charged to one address at the same instant.
        for message_id in {row.message_id for row in rows}:
            mails = [(row.address_key, row.charged_at) for row in rows if row.message_id == message_id]
            _forget(sender, [(address, at) for address, at in mails if at])
    Delivery.objects.filter(among("pk", [row.pk for row in rows])).update(charged_at=None)


def capped(address: str, creator_id: int, now: datetime) -> Exists:
    """Whether one more mail from that creator at `now` to the outer row's `address` would be one too many."""
    oldest = Case(
        When(sender=SITE, then=_oldest(settings.RECIPIENT_CAP_SITE)),
        default=_oldest(settings.RECIPIENT_CAP_CREATOR),
    )
    rows = RecentMail.objects.filter(address_key=OuterRef(address), sender__in=[creator_id, SITE])
    return Exists(rows.annotate(oldest=oldest).filter(oldest__gt=_block(now - WINDOW)))


def _oldest(cap: int) -> Substr:
    """The cap-th newest time of a row; empty if they are fewer."""
    return Substr("times", BLOCK * (cap - 1) + 1, BLOCK)


def _block(at: datetime) -> str:
    return f" {(at - EPOCH) // timedelta(milliseconds=1):013d}"


# A row of nobody's times yet is claimed too: whoever else would write it waits.
_CLAIM = "times = messaging_recentmail.times"
_CHARGE = """times = substr(excluded.times || messaging_recentmail.times, 1, %s)
    WHERE substr(messaging_recentmail.times, %s, %s) <= %s"""


def _let(
    sender: int,
    asking: QuerySet[Delivery],
    due: QuerySet[Delivery],
    before: list[tuple[str, datetime]],
    now: datetime,
) -> set[str]:
    """The addresses of `asking` that have room, now charged. What was charged `before` to any of `due` is forgotten."""
    if before:
        # All of them first and in order, as forgetting takes only some.
        _upsert(sender, due, "", _CLAIM, [])
        _forget(sender, before)
    cap = settings.RECIPIENT_CAP_CREATOR if sender else settings.RECIPIENT_CAP_SITE
    values = [BLOCK * cap, BLOCK * (cap - 1) + 1, BLOCK, _block(now - WINDOW)]
    return _upsert(sender, asking, _block(now), _CHARGE, values)


def _upsert(
    sender: int, asking: QuerySet[Delivery], times: str, change: str, values: list[int | str]
) -> set[str]:
    """One row for each address of `asking`, with `times` if it is new and else changed; returns whose were written."""
    source = asking.order_by("address_key").values_list(Value(sender), F("address_key"), Value(times))
    try:
        sql, params = source.query.sql_with_params()
    except EmptyResultSet:
        return set()
    statement = f"""
        INSERT INTO messaging_recentmail (sender, address_key, times) {sql}
        ON CONFLICT (address_key, sender) DO UPDATE SET {change} RETURNING address_key
    """
    with connection.cursor() as cursor:
        cursor.execute(statement, [*params, *values])
        return {row[0] for row in cursor.fetchall()}


def _forget(sender: int, mails: Iterable[tuple[str, datetime]]) -> None:
    """Takes one charge at its time from each address, where it still counts; an address comes once."""
    at_once = defaultdict(list)
    for address, at in mails:
        at_once[_block(at)].append(address)
    for block, addresses in at_once.items():
        place = StrIndex("times", Value(block))
        rest = Concat(Substr("times", 1, place - 1), Substr("times", place + BLOCK))
        rows = RecentMail.objects.filter(among("address_key", addresses), sender=sender)
        rows.filter(times__contains=block).update(times=rest)

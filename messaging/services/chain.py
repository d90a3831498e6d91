"""The chained commit: the one write between two waves of mails.

It renews the chunk's lease under its epoch, records what became of the wave before, and writes the intent for the
next. Only then is that one offered. So a worker that dies leaves one mail a connection in doubt.

Two fences, for two questions. Whether a mail may be *offered* is asked of the chunk's epoch: who lost the chunk,
or was paused, offers nothing more. What became of a mail that was offered is *recorded* under its own number of
attempts: that answer is evidence, and stays true when the chunk is somebody else's by now. An attempt that does not
count gives its number back, so that number names nobody any more: it is recorded by who has the chunk only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from psycopg import Cursor

from messaging.models import Chunk, Delivery, Gate, Message
from messaging.services.eligible import CLOCKS_APART, NOBODY, Told, may_go
from rows.clock import db_now


class Settled(NamedTuple):
    """What became of a mail at its `attempt`."""

    delivery_id: int
    attempt: int
    state: str
    reason: str = ""
    code: int | None = None
    provider_id: str = ""
    # Only of one that is planned again: not before then, and whether this attempt counts.
    not_before: datetime | None = None
    counts: bool = True


@dataclass(frozen=True)
class Link:
    """What the chain answered: is the chunk still ours, may its message go on, and what may be offered now.

    Who is missing in `offered` may not be offered: the row is not planned any more, or nothing may go on.
    """

    ours: bool
    goes_on: bool
    offered: frozenset[int] = frozenset()


def link(
    chunk: Chunk,
    *,
    settled: Sequence[Settled] = (),
    intend: Mapping[int, str] | None = None,
    told: Told = NOBODY,
    call: int | None = None,
    by: str = "",
    seconds: float,
    now: datetime,
) -> Link:
    """Records `settled` and writes the intent to offer the deliveries `intend`, if the chunk is still ours.

    `intend` names the address that each one's mail is written to: one whose person has another by now, or may not be
    written to any more (`told`), is not offered. `call` marks mails that leave in one call, by the first of them; `by` is the way they go. What stops the intent
    never stops the record. Twice with the same arguments: the second time nothing is planned any more, so nothing is offered twice.
    """
    write = _Write(chunk, settled, intend or {}, told, call, by, seconds, now)
    if connection.vendor == "postgresql":
        return _in_one_statement(write)
    with transaction.atomic():
        return _in_short_updates(write)


@dataclass(frozen=True)
class _Write:
    chunk: Chunk
    settled: Sequence[Settled]
    intend: Mapping[int, str]
    told: Told
    call: int | None
    by: str
    seconds: float
    now: datetime


# Who may be written to stands here as single look-ups by key: however many waves, grants and people there are, and
# whatever the database believes of their numbers, each mail costs the same. `may_go` says the same for SQLite.
_STATEMENT = """
WITH ours AS (
    UPDATE messaging_chunk SET lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
    WHERE id = %(chunk)s AND epoch = %(epoch)s AND state = 'open'
    RETURNING message_id
), goes_on AS (
    SELECT 1 FROM ours
    JOIN messaging_message message ON message.id = ours.message_id
    JOIN distribution_release release ON release.id = message.release_id
    JOIN groups_creator creator ON creator.id = release.creator_id
    WHERE message.state = 'running' AND message.due_at <= %(now)s AND creator.paused_at IS NULL
        AND (release.recalled_at IS NULL OR message.kind = 'digest')
        AND NOT EXISTS (SELECT 1 FROM messaging_gate WHERE locked_at IS NOT NULL OR rests_until > %(now)s)
), settled AS (
    UPDATE messaging_delivery delivery
    SET state = became.state, reason = became.reason, smtp_code = became.code, provider_id = became.provider_id,
        not_before = became.not_before, attempts = delivery.attempts - became.uncounted
    FROM unnest(
        %(ids)s::bigint[], %(attempts)s::int[], %(states)s::text[], %(reasons)s::text[], %(codes)s::int[],
        %(provider_ids)s::text[], %(not_befores)s::timestamptz[], %(uncounted)s::int[]
    ) AS became (id, attempt, state, reason, code, provider_id, not_before, uncounted)
    WHERE delivery.id = became.id AND delivery.attempts = became.attempt
        AND (delivery.state = 'sending' OR (delivery.state = 'unknown' AND became.state <> 'planned'))
        AND (became.uncounted = 0 OR EXISTS (SELECT 1 FROM ours))
), intended AS (
    UPDATE messaging_delivery delivery
    SET state = 'sending', attempts = attempts + 1, offered_at = coalesce(offered_at, %(now)s), not_before = NULL,
        reason = '', smtp_code = NULL, provider_id = '', wave = %(call)s, offered_by = %(by)s
    FROM unnest(%(intend)s::bigint[], %(addresses)s::text[]) AS meant (id, address)
    WHERE delivery.id = meant.id AND delivery.state = 'planned' AND EXISTS (SELECT 1 FROM goes_on)
        AND delivery.address_key = meant.address
        AND meant.address = (SELECT address_key FROM groups_contact contact
            WHERE id = delivery.contact_id AND (opted_out_at IS NULL
                OR (SELECT true FROM messaging_preference WHERE contact_id = contact.id LIMIT 1)))
        AND (SELECT true FROM groups_membership
            WHERE contact_id = delivery.contact_id AND group_id = ANY(%(groups)s::bigint[])
                AND started_at <= %(soon)s AND (ended_at IS NULL OR ended_at > %(soon)s) LIMIT 1)
        AND (SELECT revoked_at IS NULL AND (redeemed_at IS NULL OR %(kind)s <> 'reminder')
            FROM distribution_grant WHERE id = delivery.grant_id)
        AND (SELECT true FROM accounts_suppression
            WHERE address_key = meant.address AND lifted_at IS NULL LIMIT 1) IS NULL
        AND (SELECT true FROM messaging_preference
            WHERE contact_id = delivery.contact_id AND choice = 'nothing' LIMIT 1) IS NULL
    RETURNING delivery.id
)
SELECT EXISTS (SELECT 1 FROM ours), EXISTS (SELECT 1 FROM goes_on),
    (SELECT array_agg(id) FROM intended)
"""


def _in_one_statement(write: _Write) -> Link:
    settled = write.settled
    values: dict[str, Any] = {
        "chunk": write.chunk.pk,
        "epoch": write.chunk.epoch,
        "seconds": write.seconds,
        "now": write.now,
        "intend": list(write.intend),
        "addresses": list(write.intend.values()),
        "groups": list(write.told.groups),
        "kind": write.told.kind,
        "soon": write.now + CLOCKS_APART,
        "call": write.call,
        "by": write.by,
        "ids": [one.delivery_id for one in settled],
        "attempts": [one.attempt for one in settled],
        "states": [one.state for one in settled],
        "reasons": [one.reason for one in settled],
        "codes": [one.code for one in settled],
        "provider_ids": [one.provider_id for one in settled],
        "not_befores": [one.not_before for one in settled],
        "uncounted": [0 if one.counts else 1 for one in settled],
    }
    connection.ensure_connection()
    # Prepared, and so past Django's cursor and its word for the connection: to parse and plan it anew each time is
    # half of what it costs the database.
    connection.connection.prepare_threshold = 0
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        cursor.execute(_STATEMENT, values, prepare=True)
        [(ours, goes_on, ids)] = cursor.fetchall()
    return Link(ours, goes_on, frozenset(ids or ()))


def _in_short_updates(write: _Write) -> Link:
    chunk, now = write.chunk, write.now
    held = Chunk.objects.filter(pk=chunk.pk, epoch=chunk.epoch, state=Chunk.State.OPEN)
    ours = held.update(lease_until=db_now() + timedelta(seconds=write.seconds))
    for one in write.settled:
        if ours or one.counts:
            _record(one)
    if not ours:
        return Link(ours=False, goes_on=False)
    running = Message.objects.due(now).running().filter(pk=chunk.message_id)
    closed = Gate.objects.filter(Q(locked_at__isnull=False) | Q(rests_until__gt=now))
    if not running.exists() or closed.exists():
        return Link(ours=True, goes_on=False)
    planned = Delivery.objects.filter(pk__in=list(write.intend), state=Delivery.State.PLANNED)
    going = planned.filter(may_go(write.told, now)).values_list("pk", "address_key")
    intended = frozenset(pk for pk, address in going if address == write.intend[pk])
    Delivery.objects.filter(pk__in=intended).update(
        state=Delivery.State.SENDING,
        attempts=F("attempts") + 1,
        offered_at=Coalesce("offered_at", now),
        not_before=None,
        reason="",
        # Of an attempt before: it says nothing of this one.
        smtp_code=None,
        provider_id="",
        wave=write.call,
        offered_by=write.by,
    )
    return Link(ours=True, goes_on=True, offered=intended)


def _record(one: Settled) -> None:
    doubtful = Q(state=Delivery.State.SENDING)
    if one.state != Delivery.State.PLANNED:
        doubtful |= Q(state=Delivery.State.UNKNOWN)
    Delivery.objects.filter(doubtful, pk=one.delivery_id, attempts=one.attempt).update(
        state=one.state,
        reason=one.reason,
        smtp_code=one.code,
        provider_id=one.provider_id,
        not_before=one.not_before,
        attempts=F("attempts") - (0 if one.counts else 1),
    )

"""The chained commit: the one write between two mails.

It renews the chunk's lease under its epoch, records what became of the mail before, and writes the intent for the
next. Only then is that one offered. So a worker that dies leaves one mail in doubt, and a worker that lost its chunk
neither records nor offers anything more.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from messaging.models import Chunk, Delivery, Message
from rows.clock import db_now


@dataclass(frozen=True)
class Settled:
    """What became of a mail that was offered."""

    delivery_id: int
    state: str
    reason: str = ""
    code: int | None = None
    provider_id: str = ""
    # Only of one that is planned again: not before then, and whether this attempt counts.
    not_before: datetime | None = None
    counts: bool = True


@dataclass(frozen=True)
class Link:
    """What the chain answered: is the chunk still ours, may its message go on, and since when is the intent written.

    `offered_at` is null if the next mail may not be offered: its row is not planned any more, or nothing may go on.
    """

    ours: bool
    goes_on: bool
    offered_at: datetime | None


def link(chunk: Chunk, *, settled: Settled | None, intend: int | None, seconds: float, now: datetime) -> Link:
    """Records `settled` and writes the intent to offer the delivery `intend`, if the chunk is still ours.

    A paused creator or a message that has to wait stops the intent, not the record. Twice with the same
    arguments: the second time nothing is planned any more, so nothing is offered twice.
    """
    if connection.vendor == "postgresql":
        return _in_one_statement(chunk, settled, intend, seconds, now)
    with transaction.atomic():
        return _in_three_updates(chunk, settled, intend, seconds, now)


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
), settled AS (
    UPDATE messaging_delivery
    SET state = %(state)s, reason = %(reason)s, smtp_code = %(code)s, provider_id = %(provider_id)s,
        not_before = %(not_before)s, attempts = attempts - %(uncounted)s
    WHERE id = %(settled)s AND state = 'sending' AND EXISTS (SELECT 1 FROM ours)
), intended AS (
    UPDATE messaging_delivery
    SET state = 'sending', attempts = attempts + 1, offered_at = coalesce(offered_at, %(now)s), not_before = NULL,
        reason = ''
    WHERE id = %(intend)s AND state = 'planned' AND EXISTS (SELECT 1 FROM goes_on)
    RETURNING offered_at
)
SELECT EXISTS (SELECT 1 FROM ours), EXISTS (SELECT 1 FROM goes_on), (SELECT offered_at FROM intended)
"""


def _in_one_statement(
    chunk: Chunk, settled: Settled | None, intend: int | None, seconds: float, now: datetime
) -> Link:
    values: dict[str, Any] = {
        "chunk": chunk.pk,
        "epoch": chunk.epoch,
        "seconds": seconds,
        "now": now,
        "intend": intend,
        "settled": settled and settled.delivery_id,
        "state": settled and settled.state,
        "reason": settled and settled.reason,
        "code": settled and settled.code,
        "provider_id": settled and settled.provider_id,
        "not_before": settled and settled.not_before,
        "uncounted": 1 if settled and not settled.counts else 0,
    }
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENT, values)
        ours, goes_on, offered_at = cursor.fetchone()
    return Link(ours, goes_on, offered_at)


def _in_three_updates(
    chunk: Chunk, settled: Settled | None, intend: int | None, seconds: float, now: datetime
) -> Link:
    held = Chunk.objects.filter(pk=chunk.pk, epoch=chunk.epoch, state=Chunk.State.OPEN)
    if not held.update(lease_until=db_now() + timedelta(seconds=seconds)):
        return Link(False, False, None)
    if settled:
        Delivery.objects.filter(pk=settled.delivery_id, state=Delivery.State.SENDING).update(
            state=settled.state,
            reason=settled.reason,
            smtp_code=settled.code,
            provider_id=settled.provider_id,
            not_before=settled.not_before,
            attempts=F("attempts") - (0 if settled.counts else 1),
        )
    goes_on = Message.objects.due(now).filter(pk=chunk.message_id, state=Message.State.RUNNING).exists()
    if intend is None or not goes_on:
        return Link(True, goes_on, None)
    intended = Delivery.objects.filter(pk=intend, state=Delivery.State.PLANNED).update(
        state=Delivery.State.SENDING,
        attempts=F("attempts") + 1,
        offered_at=Coalesce("offered_at", now),
        not_before=None,
        reason="",
    )
    return Link(
        True, True, Delivery.objects.values_list("offered_at", flat=True).get(pk=intend) if intended else None
    )

"""A chunk's life: taken under a lease, let go of, done; and with the last of them its message."""

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q

from groups.models import Creator
from messaging import gate, ramp, recipient_cap
from messaging.models import Chunk, Delivery, Message
from messaging.services.chain import Settled, link
from messaging.services.eligible import address_now, drop_the_unwilling
from messaging.services.following import follow
from messaging.services.merging import absorb
from messaging.services.tallies import count_held, recount
from rows.clock import db_now
from rows.lease import keep_lease, take_lease
from rows.planner import by_keys


def open_chunk(*, owner: str, now: datetime) -> Chunk | None:
    """A chunk with mails to send, which `owner` holds under a new epoch; None if there is none.

    What a lost worker left half done in it is in doubt, never planned again; who has another address by now goes there,
    who must not or need not be written to any more is out. Twice: another chunk. First chunks come first, so a small message waits for nobody's million.
    """
    if not gate.may_send(now):
        return None
    with transaction.atomic(), by_keys():
        chunk = (
            Chunk.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
            .filter(state=Chunk.State.OPEN, message__in=Message.objects.due(now).running())
            .filter(Q(not_before=None) | Q(not_before__lte=now))
            .unleased(db_now())
            .order_by("number", "message")
            .first()
        )
        if chunk is None or take_lease(chunk, seconds=settings.SEND_LEASE_SECONDS) is None:
            return None
        chunk.owner = owner
        Chunk.objects.filter(pk=chunk.pk).update(owner=owner, not_before=None)
        # One opening of a creator's at a time: what two of their messages owe the same person is decided once.
        # Their row alone: a lock on the message or its release would stop whoever pauses, redeems or trips a breaker.
        creator_id = Message.objects.values_list("release__creator", flat=True).get(pk=chunk.message_id)
        creator = Creator.objects.select_for_update(no_key=True).get(pk=creator_id)
        take_over(chunk)
        follow(chunk, creator_id=creator.pk)
        drop_the_unwilling(chunk, now)
        tomorrow = ramp.hold_back(chunk, creator=creator, now=now)
        recipient_cap.charge(chunk, creator_id=creator.pk, now=now)
        elsewhere = absorb(chunk, creator_id=creator.pk, now=now)
    Message.objects.filter(pk=chunk.message_id).update(moved_at=now)
    for message_id, contacts in elsewhere.items():
        recount(message_id, contacts)
    if tomorrow:
        because = ramp.waits_because(creator, tomorrow)
        Message.objects.running().filter(pk=chunk.message_id).update(due_at=tomorrow, waits_because=because)
    return chunk


def close_chunk(chunk: Chunk, *, settled: list[Settled], now: datetime) -> None:
    """`settled` is recorded; the chunk is counted and nobody's, done if nothing in it is left to send, and with the
    last one the message.

    If the chunk is not ours any more, what we know is recorded all the same. Twice: the same.
    """
    with transaction.atomic():
        ours = link(chunk, settled=settled, seconds=1, now=now).ours
        done = ours and _let_go(chunk)
    if not ours:
        # Paused or cancelled under us: nobody took it, so nobody has to wait until the lease lapses.
        Chunk.objects.filter(pk=chunk.pk, epoch=chunk.epoch + 1, owner=chunk.owner).update(lease_until=None)
        recount(chunk.message_id, [chunk.until])
    count_held(chunk.message_id)
    Message.objects.filter(pk=chunk.message_id).update(moved_at=now)
    if done or any(one.counts for one in settled):
        Message.objects.filter(pk=chunk.message_id).update(progress_at=now, stalled_at=None)
    finish_message(chunk.message_id, now=now)


def finish_message(message_id: int, *, now: datetime) -> bool:
    """The message is done if it runs and no chunk of it is open. Returns whether this call ended it."""
    still_open = Chunk.objects.filter(message=OuterRef("pk"), state=Chunk.State.OPEN)
    ended = Message.objects.running().filter(~Exists(still_open), pk=message_id)
    return bool(ended.update(state=Message.State.DONE, done_at=now, waits_because=""))


def take_over(chunk: Chunk) -> None:
    """What was being handed over when its worker was lost is in doubt. Twice: nothing changes."""
    Delivery.objects.of(chunk).filter(state=Delivery.State.SENDING).update(
        state=Delivery.State.UNKNOWN, reason=Delivery.Reason.WORKER_LOST
    )


def _let_go(chunk: Chunk) -> bool:
    """The chunk is counted. Returns whether it is done."""
    rows = Delivery.objects.of(chunk)
    # One that is being handed over still is one whose record we lost: the next opening finds it in doubt.
    left = rows.filter(state__in=[Delivery.State.PLANNED, Delivery.State.SENDING]).order_by()
    at_once, done = left.filter(not_before=None).exists(), not left.exists()
    Chunk.objects.filter(pk=chunk.pk).update(
        state=Chunk.State.DONE if done else Chunk.State.OPEN,
        not_before=None if at_once else left.aggregate(first=Min("not_before"))["first"],
        tally=rows.tally(),
        lease_until=None,
    )
    return done


def look_again(chunk: Chunk, *, now: datetime) -> frozenset[int]:
    """Who was suppressed, left or lost the files since the chunk was opened is out. Returns the deliveries that may
    still go in this opening; who has another address by now waits for the next. None, if it is not ours any more.
    """
    with transaction.atomic():
        if not keep_lease(chunk, seconds=settings.SEND_LEASE_SECONDS):
            return frozenset()
        drop_the_unwilling(chunk, now)
        waiting = Delivery.objects.of(chunk).filter(state=Delivery.State.PLANNED, charged_at__isnull=False)
        staying = waiting.filter(address_key=address_now()).order_by()
        return frozenset(staying.values_list("pk", flat=True))

"""A chunk's life: taken under a lease, let go of, done; and with the last of them its message."""

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q

from accounts.models import Suppression
from distribution.audience import reached_groups
from distribution.models import Grant
from groups.models import Creator, Membership
from messaging import gate, ramp, recipient_cap
from messaging.models import Chunk, Delivery, Message
from messaging.services.chain import Settled, link
from messaging.services.merging import absorb
from messaging.services.outcome import wanting_none, wanting_weekly
from messaging.services.tallies import count_held, recount
from rows.clock import db_now
from rows.lease import keep_lease, take_lease


def open_chunk(*, owner: str, now: datetime) -> Chunk | None:
    """A chunk with mails to send, which `owner` holds under a new epoch; None if there is none.

    What a lost worker left half done in it is in doubt, never planned again; who must not or need not be written to
    any more is out. Twice: another chunk. First chunks come first, so a small message waits for nobody's million.
    """
    if not gate.may_send(now):
        return None
    with transaction.atomic():
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
        _drop_the_unwilling(chunk, now)
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


def look_again(chunk: Chunk, *, now: datetime) -> None:
    """Who was suppressed, left or lost the files since the chunk was opened is out. Nothing if it is not ours any more."""
    with transaction.atomic():
        if keep_lease(chunk, seconds=settings.SEND_LEASE_SECONDS):
            _drop_the_unwilling(chunk, now)


def _drop_the_unwilling(chunk: Chunk, now: datetime) -> None:
    """Whoever must not be written to any more, asked not to be, has left or holds nothing by it any more, is out."""
    state, reason = Delivery.State, Delivery.Reason
    release = chunk.message.release
    planned = Delivery.objects.of(chunk).filter(state=state.PLANNED)
    suppressed = Suppression.objects.live().filter(address_key=OuterRef("address_key"))
    planned.filter(Exists(suppressed)).update(state=state.SUPPRESSED, reason=reason.SUPPRESSED)
    no_mail = wanting_none(release.creator).filter(contact=OuterRef("contact"))
    planned.filter(Exists(no_mail)).update(state=state.SKIPPED, reason=reason.NO_MAIL)
    if chunk.message.kind == Message.Kind.REMINDER:
        redeemed = Grant.objects.filter(pk=OuterRef("grant"), redeemed_at__isnull=False)
        planned.filter(Exists(redeemed)).update(state=state.SKIPPED, reason=reason.REDEEMED)
    revoked = Grant.objects.filter(pk=OuterRef("grant"), revoked_at__isnull=False)
    planned.filter(Exists(revoked)).update(state=state.CANCELLED, reason=reason.REVOKED)
    if chunk.message.kind != Message.Kind.DIGEST:
        weekly = wanting_weekly(release.creator).filter(contact=OuterRef("contact"))
        planned.filter(Exists(weekly)).update(state=state.HELD, reason=reason.WEEKLY)
        belonging = Membership.objects.live(now).filter(
            group__in=reached_groups(release), contact=OuterRef("contact")
        )
        planned.filter(~Exists(belonging)).update(state=state.CANCELLED, reason=reason.LEFT)

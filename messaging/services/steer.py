"""A send under way, steered by a person (M9): paused, resumed, cancelled; and who is written to once more."""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils.translation import gettext as _

from accounts.models import Suppression, User
from accounts.services import record
from groups.rights import Right
from groups.services.staff import require_right
from messaging import recipient_cap, throttle
from messaging.models import Chunk, Delivery, Message
from messaging.services.chunks import take_over
from messaging.services.merging import tell_after_all
from messaging.services.tallies import count_held, recount
from rows.clock import db_now

UNDER_WAY = [Message.State.CONFIRMED, Message.State.RUNNING]
# What may be offered once more because a person says so.
RESENDABLE = [
    Delivery.State.FAILED,
    Delivery.State.UNKNOWN,
    Delivery.State.BOUNCED,
    # Whose suppression was lifted, or whose address is another one now.
    Delivery.State.SUPPRESSED,
]


class CannotSteer(Exception):
    """The message is not in a state for that any more. `str()` says which and is safe to show."""


def pause_message(message: Message, *, by: User, now: datetime) -> None:
    """Nothing more of `message` is offered than what is in flight, until it is resumed.

    Twice: nothing changes. Raises `CannotSteer` when there is nothing left to pause.
    """
    require_right(by, Right.SEND, creator_id=message.release.creator_id)
    with transaction.atomic():
        locked = _locked(message)
        if locked.state == Message.State.PAUSED:
            return
        if locked.state not in UNDER_WAY:
            raise CannotSteer(_("This message is not being sent any more."))
        _take_away(locked, Message.State.PAUSED, "pause message", by, now)


def resume_message(message: Message, *, by: User, now: datetime) -> None:
    """A paused `message` goes on where it stopped. Twice: nothing changes. Raises `CannotSteer` if it is cancelled."""
    require_right(by, Right.SEND, creator_id=message.release.creator_id)
    with transaction.atomic():
        locked = _locked(message)
        if locked.state == Message.State.CANCELLED:
            raise CannotSteer(_("This message was cancelled and cannot go on."))
        if locked.state != Message.State.PAUSED:
            return
        locked.state = Message.State.RUNNING if locked.started_at else Message.State.CONFIRMED
        # It did not stand still: it was told to.
        locked.moved_at = locked.progress_at = now
        locked.save(update_fields=["state", "moved_at", "progress_at"])
        _record(locked, "resume message", by, now)


def cancel_message(message: Message, *, by: User | None, now: datetime) -> None:
    """Nothing more of `message` is offered than what is in flight, for good; the files that were given stay.

    Its slots are given back if nothing was offered. The deliveries follow by `clear_cancelled`. Twice: nothing
    changes. Raises `CannotSteer` when it is sent already, or still a draft.
    """
    require_right(by, Right.SEND, creator_id=message.release.creator_id)
    with transaction.atomic():
        locked = _locked(message)
        if locked.state == Message.State.CANCELLED:
            return
        if locked.state in {Message.State.DRAFT, Message.State.DONE}:
            raise CannotSteer(_("There is nothing left to cancel: this message is not being sent."))
        # First the fence, then the look: what is offered from here on is nobody's.
        _take_away(locked, Message.State.CANCELLED, "cancel message", by, now)
        if not _anything_offered(locked):
            throttle.give_back(locked, now=now)


def clear_cancelled(message_id: int, *, now: datetime) -> int:
    """The deliveries of a cancelled message that were not offered are `cancelled`, those a lost worker left in doubt.

    A chunk a transaction. A chunk in which somebody may still be handing over is left until its lease lapses.
    Returns how many chunks are still open. Twice: nothing changes.
    """
    cancelled = Message.objects.filter(pk=message_id, state=Message.State.CANCELLED)
    creator_id = cancelled.values_list("release__creator", flat=True).first()
    if creator_id is None:
        return 0
    with_held = Q(state=Chunk.State.OPEN) | Q(tally__has_key=Delivery.State.HELD)
    for chunk in Chunk.objects.filter(with_held, message=message_id).unleased(db_now()).order_by("number"):
        with transaction.atomic():
            if (
                not Chunk.objects.select_for_update(no_key=True)
                .unleased(db_now())
                .filter(pk=chunk.pk)
                .first()
            ):
                continue
            take_over(chunk)
            rows = Delivery.objects.of(chunk)
            waiting = rows.filter(state__in=[Delivery.State.PLANNED, Delivery.State.HELD]).order_by()
            recipient_cap.give_back(waiting.filter(offered_at=None), creator_id=creator_id)
            waiting.update(state=Delivery.State.CANCELLED, reason=Delivery.Reason.CANCELLED)
            elsewhere = tell_after_all(rows.filter(state=Delivery.State.CANCELLED))
            Chunk.objects.filter(pk=chunk.pk).update(
                state=Chunk.State.DONE, tally=rows.tally(), lease_until=None, epoch=F("epoch") + 1
            )
        for other_id, contacts in elsewhere.items():
            recount(other_id, contacts)
    count_held(message_id)
    return Chunk.objects.filter(message=message_id, state=Chunk.State.OPEN).count()


def resend(deliveries: QuerySet[Delivery], *, message: Message, by: User, now: datetime) -> int:
    """Those of `deliveries` that failed, came back or are in doubt are offered once more, with the same slot.

    A person decided that: some of those in doubt may get it twice. Who must not be written to is left out; who has
    another address by now is written to there. The recipient's cap was charged the first time. Returns how many. Twice: 0. Raises `CannotSteer` for a message that
    was cancelled or whose release was recalled.
    """
    require_right(by, Right.SEND, creator_id=message.release.creator_id)
    with transaction.atomic():
        locked = _locked(message)
        if locked.state not in {Message.State.DONE, Message.State.RUNNING} or locked.release.recalled_at:
            raise CannotSteer(
                _("This message was taken back, or is not on its way: nothing of it can be sent.")
            )
        suppressed = Suppression.objects.live().values("address_key")
        again = deliveries.filter(message=locked, state__in=RESENDABLE, grant__revoked_at=None)
        again = again.exclude(contact__address_key__in=suppressed)
        contacts = dict(again.values_list("pk", "contact_id"))
        if not contacts:
            return 0
        # Not the attempts: an answer to an old one must not be taken for one to the next.
        Delivery.objects.filter(pk__in=contacts, state__in=RESENDABLE).update(
            state=Delivery.State.PLANNED, reason="", not_before=None
        )
        reopen(locked, contacts.values(), now)
        _record(locked, f"resend to {len(contacts)}", by, now)
    return len(contacts)


def reopen(message: Message, contacts: Iterable[int], now: datetime) -> None:
    """The chunks that hold `contacts` are open, and the message runs unless it is paused. Under the message's lock."""
    chunks = list(Chunk.objects.filter(message=message.pk).order_by("number").values_list("until", "pk"))
    ends = [until for until, _pk in chunks]
    holding = {chunks[at][1] for at in {bisect_left(ends, contact) for contact in contacts}}
    Chunk.objects.filter(pk__in=holding).update(state=Chunk.State.OPEN, not_before=None)
    recount(message.pk, contacts)
    done = Message.objects.filter(pk=message.pk, state=Message.State.DONE)
    done.update(state=Message.State.RUNNING, done_at=None)
    Message.objects.filter(pk=message.pk).update(moved_at=now, progress_at=now)


def _locked(message: Message) -> Message:
    rows = Message.objects.select_for_update(no_key=True, of=("self",)).select_related("release")
    return rows.get(pk=message.pk)


def _take_away(message: Message, state: Message.State, verb: str, by: User | None, now: datetime) -> None:
    """The message is in `state`, and whoever works on it finds at the next wave that it is not theirs any more."""
    # Its own epoch too: whoever plans it stops between two pages.
    ended = now if state == Message.State.CANCELLED else None
    Message.objects.filter(pk=message.pk).update(
        state=state, done_at=ended, epoch=F("epoch") + 1, lease_until=None
    )
    Chunk.objects.filter(message=message, state=Chunk.State.OPEN).update(epoch=F("epoch") + 1)
    _record(message, verb, by, now)


def _anything_offered(message: Message) -> bool:
    """Whether a mail of it was offered: only chunks that a worker has opened can tell."""
    opened = Chunk.objects.filter(message=message).exclude(owner="").order_by("number")
    return any(Delivery.objects.of(chunk).filter(offered_at__isnull=False).exists() for chunk in opened)


def _record(message: Message, verb: str, by: User | None, now: datetime) -> None:
    record(by, verb, f"message {message.pk}", creator_id=message.release.creator_id, now=now)

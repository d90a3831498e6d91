"""A copied or restored database is let send again, after what it may send twice was put out of its way."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import record
from messaging import gate
from messaging.models import Chunk, Delivery, Gate, Message
from messaging.providers import provider
from messaging.services.chunks import finish_message
from messaging.services.digests import last_moment
from messaging.services.steer import cancel_message, clear_cancelled
from messaging.services.tallies import count_held

# Their mails may have gone since the day the database is of.
WAITING = [Delivery.State.PLANNED, Delivery.State.SENDING]


class NotLocked(Exception):
    """This installation may send: there is nothing to unlock. `str()` is safe to show."""

    def __init__(self) -> None:
        super().__init__(_("Sending is not locked here: there is nothing to unlock."))


@dataclass(frozen=True)
class Doubts:
    """What the database would send, in numbers."""

    # Messages that were being sent, and their mails that were not offered yet.
    started: int
    mails: int
    # What waits for a digest, and of that what was due in one since.
    held: int
    told: int
    # Messages whose time has come since, and those whose time is still to come.
    overdue: int
    scheduled: int


def doubts(now: datetime) -> Doubts:
    """What the database would send if it were let. Reads counts that chunks keep. Writes nothing."""
    confirmed = Message.objects.filter(state=Message.State.CONFIRMED)
    tallies = _open_chunks().values_list("tally", flat=True)
    return Doubts(
        started=_under_way().count(),
        mails=sum(tally.get(state, 0) for tally in tallies for state in WAITING),
        held=sum(message.held for message in _holding()),
        told=sum(message.held for message in _told_since(now)),
        overdue=confirmed.filter(due_at__lte=now).count(),
        scheduled=confirmed.filter(due_at__gt=now).count(),
    )


def outlook_of(found: Doubts, *, nothing_was_sent: bool = False, as_new: bool = False) -> list[str]:
    """What unlocking does with `found`, a sentence each."""
    numbers = {
        "started": found.started,
        "mails": found.mails,
        "held": found.held,
        "told": found.told,
        "overdue": found.overdue,
        "scheduled": found.scheduled,
    }
    if as_new:
        told = [
            _(
                "Messages being sent: %(started)s, with %(mails)s mails that were not offered. All are cancelled."
            ),
            _("Mails that wait for a digest: %(held)s. All are cancelled."),
            _("Messages whose time has come: %(overdue)s, still to come: %(scheduled)s. All are cancelled."),
        ]
    elif nothing_was_sent:
        told = [
            _("Messages being sent: %(started)s, with %(mails)s mails that were not offered. They go now."),
            _("Mails that wait for a digest: %(held)s. They go on waiting for it."),
            _("Messages whose time has come: %(overdue)s. They go now."),
            _("Messages whose time is still to come: %(scheduled)s. They go when it comes."),
        ]
    else:
        told = [
            _(
                "Messages being sent: %(started)s, with %(mails)s mails that were not offered. These are put in doubt, by name: "
                "the relay's log settles them, or a person who sends to them again."
            ),
            _(
                "Mails that wait for a digest: %(held)s. Of these %(told)s were due in one since, and are put in doubt; the "
                "others go on waiting."
            ),
            _(
                "Messages whose time has come: %(overdue)s. They are paused: whoever knows that one was not sent resumes it."
            ),
            _("Messages whose time is still to come: %(scheduled)s. They go when it comes."),
        ]
    return [line % numbers for line in told]


def unlock_sending(
    *, by: User | None, now: datetime, nothing_was_sent: bool = False, as_new: bool = False
) -> Doubts:
    """The database is this installation's and may send. Returns what it would have sent; who did it is on record.

    By default what may have been sent since the day it is of is not sent again: mails not offered yet are in doubt,
    by name, until the relay's log or a person settles them; so are those that waited for a digest; a message whose
    time came meanwhile is paused. With `nothing_was_sent` all goes on. With `as_new`, for a copy whose original
    lives on, all that was under way or scheduled is cancelled. Killed anywhere it is locked still, and goes on when
    called again. Raises `NotLocked`.
    """
    if not gate.needs_unlocking():
        raise NotLocked
    found = doubts(now)
    if as_new:
        _cancel_all(by, now)
    elif not nothing_was_sent:
        _doubt_all(now)
    # It did not stand still: it was told to.
    Message.objects.running().update(progress_at=now)
    gate.adopt(now)
    how = "as new" if as_new else "nothing was sent" if nothing_was_sent else "in doubt"
    record(by, "unlock sending", f"{settings.INSTALLATION_ID[:12]}… {how}: {found.mails} mails", now=now)
    return found


def _under_way() -> QuerySet[Message]:
    states = [Message.State.RUNNING, Message.State.PAUSED]
    return Message.objects.filter(state__in=states, started_at__isnull=False)


def _open_chunks() -> QuerySet[Chunk]:
    return Chunk.objects.filter(state=Chunk.State.OPEN, message__in=_under_way())


def _holding() -> QuerySet[Message]:
    return Message.objects.filter(held__gt=0).select_related("release__creator")


def _told_since(now: datetime) -> list[Message]:
    """Those whose held mails were due in a digest since the day the database is of."""
    since = Gate.objects.values_list("beaten_at", flat=True).first() or now
    moments = [(message, last_moment(message.release.creator, now)) for message in _holding()]
    return [
        message
        for message, moment in moments
        if since < moment and message.planned_at and message.planned_at <= moment
    ]


def _doubt_all(now: datetime) -> None:
    for chunk in _open_chunks().order_by("pk"):
        _put_away(chunk, WAITING, Delivery.State.UNKNOWN, Delivery.Reason.RESTORED, now)
    for message in _told_since(now):
        _put_away_held(message, Delivery.State.UNKNOWN, Delivery.Reason.RESTORED, now)
    for message_id in list(Message.objects.running().values_list("pk", flat=True)):
        finish_message(message_id, now=now)
    overdue = Message.objects.filter(state=Message.State.CONFIRMED, due_at__lte=now)
    overdue.update(
        state=Message.State.PAUSED,
        waits_because=_(
            "The site's database was put back to an earlier day: this may have been sent already. Resume it only if it was not."
        ),
        epoch=F("epoch") + 1,
        lease_until=None,
    )


def _cancel_all(by: User | None, now: datetime) -> None:
    states = [Message.State.CONFIRMED, Message.State.RUNNING, Message.State.PAUSED]
    for message in Message.objects.filter(state__in=states):
        cancel_message(message, by=by, now=now)
        Chunk.objects.filter(message=message).update(lease_until=None)
        clear_cancelled(message.pk, now=now)
    for message in _holding():
        _put_away_held(message, Delivery.State.CANCELLED, Delivery.Reason.CANCELLED, now)


def _put_away_held(message: Message, became: Delivery.State, reason: Delivery.Reason, now: datetime) -> None:
    for chunk in message.chunks.filter(tally__has_key=Delivery.State.HELD):
        _put_away(chunk, [Delivery.State.HELD], became, reason, now)
    count_held(message.pk)


@transaction.atomic
def _put_away(
    chunk: Chunk, states: list[Delivery.State], became: Delivery.State, reason: Delivery.Reason, now: datetime
) -> None:
    """What is in `states` in the chunk is so no longer; a worker that still holds it has lost it."""
    Chunk.objects.filter(pk=chunk.pk).update(epoch=F("epoch") + 1, lease_until=None)
    rows = Delivery.objects.of(chunk)
    # By the way it would have gone: the relay's log may tell of it, as of any other doubt.
    rows.filter(state__in=states, offered_by="").update(offered_by=provider().name)
    rows.filter(state__in=states).update(state=became, reason=reason)
    tally = rows.tally()
    done = not any(tally.get(state) for state in WAITING)
    Chunk.objects.filter(pk=chunk.pk).update(
        state=Chunk.State.DONE if done else Chunk.State.OPEN, tally=tally
    )
    Message.objects.filter(pk=chunk.message_id).update(moved_at=now)

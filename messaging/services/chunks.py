"""Sending: a worker takes a chunk under a lease, offers its mails one by one, and lets go of it."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q
from django.utils.translation import gettext as _

from accounts.models import Suppression
from accounts.services import suppress
from messaging.mail import Mail, Mailing, Recipient, group_names, links_of
from messaging.models import Chunk, Delivery, Message
from messaging.providers import Answer, Kind, NotOpen, Provider
from messaging.services.chain import Settled, link
from messaging.services.plan import wanting_none
from messaging.words import WordsRefused
from rows.clock import db_now
from rows.lease import take_lease

log = logging.getLogger(__name__)

# How long after each attempt a mail that was certainly not taken is offered again; after the last it has failed.
BACKOFF = [timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720)]
# So many mails in doubt one after the other are no accident: the mail system is in trouble.
DOUBTS = 3
DOUBTFUL_SECONDS = 300.0

Clock = Callable[[], datetime]


def send_waiting(*, owner: str, provider: Provider, clock: Clock, stop: Callable[[], bool]) -> None:
    """Every mail that may go now is offered, chunk by chunk, over one connection, until `stop`.

    Killed anywhere: the mail being handed over is in doubt, everything else goes on after the lease. Twice at the
    same time: each takes other chunks.
    """
    mailings: dict[int, Mailing] = {}
    try:
        while not stop() and (chunk := open_chunk(owner=owner, now=clock())):
            try:
                mailing = mailings.get(chunk.message_id) or Mailing(_whole(chunk.message_id))
            except WordsRefused as refused:
                _wait(chunk, str(refused), seconds=DOUBTFUL_SECONDS, now=clock())
                close_chunk(chunk, settled=None, now=clock())
                continue
            mailings[chunk.message_id] = mailing
            send_chunk(chunk, mailing, provider, clock=clock, stop=stop)
    finally:
        provider.close()


def open_chunk(*, owner: str, now: datetime) -> Chunk | None:
    """A chunk with mails to send, which this worker holds under a new epoch; None if there is none.

    What a lost worker left half done in it is in doubt, never planned again; addresses that were suppressed and
    people who asked for no mail since planning are out. Twice: another chunk. First chunks come first, so a small
    message waits for nobody's million.
    """
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
        Chunk.objects.filter(pk=chunk.pk).update(owner=owner, not_before=None)
        _take_over(chunk)
        _drop_the_unwilling(chunk)
    return chunk


def send_chunk(
    chunk: Chunk, mailing: Mailing, provider: Provider, *, clock: Clock, stop: Callable[[], bool]
) -> None:
    """Offers the chunk's mails, each once, and lets go of the chunk.

    Between two mails stands the chained commit; it ends the work at once when the lease is lost, the creator is
    paused or the message has to wait. `stop` ends it too, with nothing in doubt.
    """
    settled: Settled | None = None
    doubts = 0
    for mail, ahead in _mails(chunk, mailing, clock):
        if stop() or not _ready(provider, chunk, clock):
            break
        step = link(chunk, settled=settled, intend=ahead.pk, seconds=settings.SEND_LEASE_SECONDS, now=clock())
        # It is recorded now, or it was no longer ours to record.
        settled = None
        if not step.goes_on:
            break
        if step.offered_at is None:
            continue
        try:
            answer = provider.offer(mail(step.offered_at))
        except NotOpen as closed:
            settled = Settled(ahead.pk, Delivery.State.PLANNED, counts=False)
            _wait(chunk, str(closed), seconds=closed.seconds, now=clock())
            break
        settled = _settle(ahead, answer, now=clock())
        doubts = doubts + 1 if answer.kind == Kind.IN_DOUBT else 0
        if doubts == DOUBTS:
            _wait(
                chunk,
                _("The mail system gave no clear answer several times running."),
                seconds=DOUBTFUL_SECONDS,
                now=clock(),
            )
            break
    close_chunk(chunk, settled=settled, now=clock())


def close_chunk(chunk: Chunk, *, settled: Settled | None, now: datetime) -> None:
    """The chunk is counted and nobody's; done if nothing in it is left to send, and with the last one the message.

    If it is not ours any more nothing changes. Twice: the same.
    """
    with transaction.atomic():
        if not link(chunk, settled=settled, intend=None, seconds=1, now=now).ours:
            return
        rows = Delivery.objects.of(chunk)
        left = rows.filter(state=Delivery.State.PLANNED).order_by()
        at_once = left.filter(not_before=None).exists()
        Chunk.objects.filter(pk=chunk.pk).update(
            state=Chunk.State.OPEN if left.exists() else Chunk.State.DONE,
            not_before=None if at_once else left.aggregate(first=Min("not_before"))["first"],
            tally=rows.tally(),
            lease_until=None,
        )
    finish_message(chunk.message_id, now=now)


def finish_message(message_id: int, *, now: datetime) -> bool:
    """The message is done if it runs and no chunk of it is open. Returns whether this call ended it."""
    still_open = Chunk.objects.filter(message=OuterRef("pk"), state=Chunk.State.OPEN)
    ended = Message.objects.running().filter(~Exists(still_open), pk=message_id)
    return bool(ended.update(state=Message.State.DONE, done_at=now, waits_because=""))


def _take_over(chunk: Chunk) -> None:
    Delivery.objects.of(chunk).filter(state=Delivery.State.SENDING).update(
        state=Delivery.State.UNKNOWN, reason=Delivery.Reason.WORKER_LOST
    )


def _drop_the_unwilling(chunk: Chunk) -> None:
    planned = Delivery.objects.of(chunk).filter(state=Delivery.State.PLANNED)
    suppressed = Suppression.objects.live().filter(address_key=OuterRef("address_key"))
    planned.filter(Exists(suppressed)).update(
        state=Delivery.State.SUPPRESSED, reason=Delivery.Reason.SUPPRESSED
    )
    no_mail = wanting_none(chunk.message.release.creator).filter(contact=OuterRef("contact"))
    planned.filter(Exists(no_mail)).update(state=Delivery.State.SKIPPED, reason=Delivery.Reason.NO_MAIL)


def _ready(provider: Provider, chunk: Chunk, clock: Clock) -> bool:
    """Whether there is a connection; without one the message waits and says why."""
    try:
        provider.open()
    except NotOpen as closed:
        _wait(chunk, str(closed), seconds=closed.seconds, now=clock())
        return False
    return True


def _wait(chunk: Chunk, because: str, *, seconds: float, now: datetime) -> None:
    """The message rests: the fence stops every other worker at its next mail too."""
    Message.objects.running().filter(pk=chunk.message_id).update(
        due_at=now + timedelta(seconds=seconds), waits_because=because[:300]
    )


def _mails(
    chunk: Chunk, mailing: Mailing, clock: Clock
) -> Iterator[tuple[Callable[[datetime], Mail], Delivery]]:
    """The chunk's deliveries that may go now, each with what makes its mail once the time is written down."""
    now = clock()
    waiting = Delivery.objects.of(chunk).filter(state=Delivery.State.PLANNED)
    due = list(waiting.filter(Q(not_before=None) | Q(not_before__lte=now)).select_related("contact", "grant"))
    message = mailing.message
    groups = group_names([delivery.contact_id for delivery in due], message.release, now=now)
    for delivery in due:

        def mail(date: datetime, delivery: Delivery = delivery) -> Mail:
            return mailing.to(
                Recipient(
                    address=delivery.address_key,
                    name=delivery.contact.name,
                    group=groups.get(delivery.contact_id, ""),
                    delivery=delivery.pk,
                    date=date,
                    **links_of(delivery.contact_id, delivery.grant_id, delivery.grant.generation),
                )
            )

        yield mail, delivery


def _settle(ahead: Delivery, answer: Answer, *, now: datetime) -> Settled:
    """What an answer makes of a delivery."""
    state = Delivery.State
    if answer.no_such_address:
        suppress(ahead.address_key, Suppression.Reason.BOUNCE, now=now)
    if answer.kind == Kind.LATER and ahead.attempts < len(BACKOFF):
        again = now + BACKOFF[ahead.attempts]
        return Settled(ahead.pk, state.PLANNED, answer.said, answer.code, not_before=again)
    became = {Kind.ACCEPTED: state.ACCEPTED, Kind.IN_DOUBT: state.UNKNOWN}.get(answer.kind, state.FAILED)
    return Settled(ahead.pk, became, answer.said, answer.code, answer.provider_id)


def _whole(message_id: int) -> Message:
    return Message.objects.select_related("release__creator").get(pk=message_id)

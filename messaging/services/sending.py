"""Sending: a worker takes chunk after chunk and offers their mails, wave by wave."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils.translation import gettext as _

from accounts.models import Suppression
from messaging import breakers, gate
from messaging.answers import count_answers
from messaging.mail import (
    Also,
    Mail,
    Mailing,
    Recipient,
    also_of,
    call_name,
    group_names,
    recipient_of,
    sample_recipient,
)
from messaging.models import Chunk, Delivery, Message
from messaging.providers import Answer, Kind, NotOpen, Provider, SignInRefused
from messaging.services.chain import Link, Settled, link
from messaging.services.chunks import close_chunk, look_again, open_chunk
from messaging.services.eligible import Told, told_by
from messaging.services.silencing import silence
from messaging.words import WordsRefused

log = logging.getLogger(__name__)

# How long after each attempt a mail that was certainly not taken is offered again; after the last it has failed.
BACKOFF = [timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720)]
# So many waves with nothing but doubt one after the other are no accident: the mail system is in trouble.
DOUBTS = 3
DOUBTFUL_SECONDS = 300.0
# A chunk that takes longer than a moment is looked through again, so often.
LOOK_SECONDS = 5.0
# A database that went away is asked again after each of these, with what we know of the mails we offered.
PATIENCE = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)

# What a mail and its record are made of.
_NEEDED = (
    "message",
    "contact",
    "grant",
    "address_key",
    "attempts",
    "offered_at",
    "not_before",
)

_BECOMES = {Kind.ACCEPTED: Delivery.State.ACCEPTED, Kind.IN_DOUBT: Delivery.State.UNKNOWN}

Clock = Callable[[], datetime]


@dataclass
class _Post:
    """What one worker needs while it works through one chunk."""

    chunk: Chunk
    mailing: Mailing
    told: Told
    provider: Provider
    clock: Clock
    stop: Callable[[], bool]
    # The chunk's deliveries that may go now, first come first, and what makes each one's mail.
    due: list[Delivery]
    groups: dict[int, str]
    # What else each one's mail tells of.
    also: dict[int, list[Also]]
    # What became of the wave before; recorded with the next intent.
    settled: list[Settled]
    # When it was last seen who may be written to.
    looked: float
    doubts: int = 0
    # How often each kind of answer came.
    answers: Counter[Kind] = field(default_factory=Counter)


def send_waiting(*, owner: str, provider: Provider, clock: Clock, stop: Callable[[], bool]) -> None:
    """Every mail that may go now is offered, chunk by chunk, until `stop`.

    Killed anywhere: the wave being handed over is in doubt, everything else goes on after the lease. Twice at the
    same time: each takes other chunks.
    """
    mailings: dict[int, Mailing] = {}
    try:
        while not stop() and (chunk := open_chunk(owner=owner, now=clock())):
            try:
                mailing = mailings.get(chunk.message_id) or Mailing(_whole(chunk.message_id))
            except WordsRefused as refused:
                _wait(chunk, str(refused), seconds=DOUBTFUL_SECONDS, now=clock())
                close_chunk(chunk, settled=[], now=clock())
                continue
            mailings[chunk.message_id] = mailing
            send_chunk(chunk, mailing, provider, clock=clock, stop=stop)
    finally:
        provider.close()


def send_chunk(
    chunk: Chunk, mailing: Mailing, provider: Provider, *, clock: Clock, stop: Callable[[], bool]
) -> None:
    """Offers the chunk's mails, each once, and lets go of the chunk.

    Between two waves stands the chained commit; it ends the work at once when the lease is lost, the creator is
    paused or the message has to wait. `stop` ends it too, with nothing in doubt.
    """
    now = clock()
    # Charged: one whose time came since the chunk was opened waits for the next opening.
    charged = Delivery.objects.of(chunk).due(now).filter(charged_at__isnull=False)
    due = list(charged.with_recipient().only(*_NEEDED))
    groups = group_names([delivery.contact_id for delivery in due], mailing.message.release, now=now)
    post = _Post(
        chunk,
        mailing,
        told_by(mailing.message),
        provider,
        clock,
        stop,
        due,
        groups,
        also_of(due),
        settled=[],
        looked=time.monotonic(),
    )
    try:
        while post.due and not stop() and _send_wave(post):
            pass
        close_chunk(chunk, settled=post.settled, now=clock())
        count_answers(provider.name, post.answers)
    except (OperationalError, InterfaceError):
        _save(post)
        raise


def _send_wave(post: _Post) -> bool:
    """One wave further. Returns whether there may be another."""
    if time.monotonic() - post.looked > LOOK_SECONDS:
        _look(post)
    try:
        wave = _next_wave(post, gate.share(post.provider.open()))
    except NotOpen as closed:
        if isinstance(closed, SignInRefused):
            gate.rest(str(closed), seconds=closed.seconds, now=post.clock())
        _wait(post.chunk, str(closed), seconds=closed.seconds, now=post.clock())
        return False
    # Before the intent: whoever waits for its turn has nothing in doubt.
    if not wave or not gate.wait_turn(len(wave), clock=post.clock, stop=post.stop):
        return False
    mails = _written(post, wave, post.clock())
    post.due = post.due[len(wave) :]
    if mails is None:
        return False
    return _hand_over(post, wave, mails) if mails else True


def _hand_over(post: _Post, wave: Sequence[Delivery], mails: dict[int, Mail]) -> bool:
    """Those of `wave` that could be written are offered. Returns whether there may be another wave."""
    written = [one for one in wave if one.pk in mails]
    begun = time.monotonic()
    # The clock anew: whoever waited for a turn must not speak of an earlier moment than a change that was answered.
    step = _intend(post, written, wave[0], post.clock())
    ready = [delivery for delivery in written if delivery.pk in step.offered]
    if step.goes_on and len(ready) < len(written):
        # Somebody changed since: the rest is looked through at the next wave, and who is out says why.
        post.looked = float("-inf")
    if not ready:
        return step.goes_on
    # Stopped for so long that others may think us dead: what we have not offered we do not offer any more.
    if time.monotonic() - begun > settings.SEND_LEASE_SECONDS / 2:
        answers = [Answer(Kind.NOT_OFFERED)] * len(ready)
    else:
        answers = post.provider.offer([mails[one.pk] for one in ready])
    now = post.clock()
    post.settled = [_settle(one, answer, now=now) for one, answer in zip(ready, answers, strict=True)]
    if gone := sum(answer.no_such_address for answer in answers):
        # It may stop the creator: the next intent finds that.
        breakers.count_bounce(post.chunk.message_id, gone, now=now)
    return _trusted(post, answers)


def _look(post: _Post) -> None:
    """Who may not be written to any more is out, and so is who is to be written to elsewhere: they wait."""
    staying = look_again(post.chunk, now=post.clock())
    post.due = [one for one in post.due if one.pk in staying]
    post.looked = time.monotonic()


def _next_wave(post: _Post, size: int) -> list[Delivery]:
    """The next mails. One that was refused in company goes alone: then the answer is about it and nobody else."""
    if not post.provider.shares_calls:
        return post.due[:size]
    alone = next((at for at, one in enumerate(post.due[:size]) if one.attempts), size)
    return post.due[: max(1, alone)]


def _written(post: _Post, wave: Sequence[Delivery], now: datetime) -> dict[int, Mail] | None:
    """The mails of `wave` by delivery, as they go: before the intent, so that what fails in writing leaves no doubt.

    One that cannot be written fails alone. None: not even a mail to somebody made up can be, so it is the message,
    which waits.
    """
    mails, unwritable = {}, []
    for one in wave:
        try:
            mails[one.pk] = _write(post, _recipient(post, one, one.offered_at or now, wave[0]))
        except Exception:
            log.exception("delivery %s cannot be written", one.pk)
            unwritable.append(one)
    if unwritable and not mails and not _could_be_written(post, unwritable[0], now):
        because = _("The mail could not be written. The people who run this site can see why.")
        _wait(post.chunk, because, seconds=DOUBTFUL_SECONDS, now=now)
        return None
    if unwritable:
        Delivery.objects.filter(pk__in=[one.pk for one in unwritable], state=Delivery.State.PLANNED).update(
            state=Delivery.State.FAILED, reason=Delivery.Reason.UNWRITABLE
        )
    return mails


def _could_be_written(post: _Post, one: Delivery, now: datetime) -> bool:
    """Whether the mail of `one` could, were it to somebody with a plain name and address.

    With its own links: what cannot be made for anybody must not fail everybody, one by one.
    """
    probe = sample_recipient(None, group="", now=now)
    try:
        own = _recipient(post, one, one.offered_at or now, one)
        _write(post, own._replace(name=probe.name, address=probe.address, group=probe.group, also=()))
    except Exception:
        log.exception("message %s cannot be written", post.chunk.message_id)
        return False
    return True


def _write(post: _Post, recipient: Recipient) -> Mail:
    mail = post.mailing.to(recipient)
    mail.raw  # noqa: B018 – kept in the mail
    return mail


def _intend(post: _Post, wave: Sequence[Delivery], first: Delivery, now: datetime) -> Link:
    """The chained commit before `wave`. If the database goes away in it, nothing of the wave was offered."""
    before = post.settled
    # Should the answer get lost, these are what we know of the wave: written down or not, it never left.
    lost = [
        Settled(one.pk, one.attempts + 1, Delivery.State.PLANNED, counts=False, not_before=one.not_before)
        for one in wave
    ]
    post.settled = [*before, *lost]
    step = link(
        post.chunk,
        settled=before,
        intend={one.pk: one.address_key for one in wave},
        told=post.told,
        call=first.pk if post.provider.shares_calls else None,
        by=post.provider.name,
        seconds=settings.SEND_LEASE_SECONDS,
        now=now,
    )
    # It is recorded now, also if the chunk was no longer ours.
    post.settled = []
    return step


def _save(post: _Post) -> None:
    """The database is gone: when it comes back soon, it hears what became of the mails it knows nothing of."""
    for seconds in PATIENCE:
        time.sleep(seconds)
        connection.close()
        try:
            close_chunk(post.chunk, settled=post.settled, now=post.clock())
            break
        except (OperationalError, InterfaceError) as error:
            log.warning("chunk %s: no database to tell: %s", post.chunk.pk, type(error).__name__)


def _trusted(post: _Post, answers: Sequence[Answer]) -> bool:
    """Whether the mail system still answers clearly; otherwise the message waits."""
    post.answers.update(answer.kind for answer in answers)
    doubtful = all(answer.kind == Kind.IN_DOUBT for answer in answers)
    post.doubts = post.doubts + 1 if doubtful else 0
    if post.doubts < DOUBTS:
        return True
    because = _("The mail system gave no clear answer several times running.")
    _wait(post.chunk, because, seconds=DOUBTFUL_SECONDS, now=post.clock())
    return False


def _wait(chunk: Chunk, because: str, *, seconds: float, now: datetime) -> None:
    """The message rests: the fence stops every other worker at its next wave too."""
    Message.objects.running().filter(pk=chunk.message_id).update(
        due_at=now + timedelta(seconds=seconds), waits_because=because[:300]
    )


def _recipient(post: _Post, delivery: Delivery, offered_at: datetime, first: Delivery) -> Recipient:
    """To whom `delivery` goes, in the call that begins with `first`."""
    named = first if post.provider.shares_calls else delivery
    return recipient_of(
        delivery,
        group=post.groups.get(delivery.contact_id, ""),
        date=offered_at,
        also=post.also.get(delivery.pk, ()),
        call=call_name(named.pk, delivery.attempts + 1),
    )


def _settle(ahead: Delivery, answer: Answer, *, now: datetime) -> Settled:
    """What an answer makes of a delivery."""
    state, attempt = Delivery.State, ahead.attempts + 1
    if answer.no_such_address:
        silence(ahead.address_key, Suppression.Reason.BOUNCE, message_id=ahead.message_id, now=now)
    if answer.kind == Kind.NOT_OFFERED:
        return Settled(ahead.pk, attempt, state.PLANNED, counts=False, not_before=ahead.not_before)
    if answer.kind == Kind.LATER and ahead.attempts < len(BACKOFF):
        again = now + BACKOFF[ahead.attempts]
        return Settled(ahead.pk, attempt, state.PLANNED, answer.said, answer.code, not_before=again)
    became = _BECOMES.get(answer.kind, state.FAILED)
    return Settled(ahead.pk, attempt, became, answer.said, answer.code, answer.provider_id)


def _whole(message_id: int) -> Message:
    return Message.objects.select_related("release__creator").get(pk=message_id)

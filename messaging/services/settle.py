"""Mail in doubt is settled from evidence, and from nothing else.

It may have been taken or not. Three things prove which: the same call made again under its key, at a provider that
takes each key once; the provider itself, asked for our mark; the log of the relay it was offered to. (What providers
post of their own accord is in `events`.) Nothing here makes a mail that may have been taken be offered a second time
under another name: what stays without evidence stays in doubt, and is listed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parseaddr
from itertools import islice

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.models import Suppression
from messaging import gate
from messaging.breakers import count_bounce
from messaging.mail import Mail, Mailing, also_of, call_name, group_names, message_id_of, recipient_of
from messaging.models import Chunk, Delivery, Message
from messaging.providers import Answer, Kind, NotOpen, provider
from messaging.providers.http import Http
from messaging.providers.meanings import names_nobody
from messaging.providers.smtp import Smtp
from messaging.relay_log import Fate, Seen, read
from messaging.services.eligible import may_go, told_by
from messaging.services.silencing import silence
from messaging.services.steer import reopen
from messaging.services.tallies import recount
from messaging.words import WordsRefused
from rows.clock import db_now
from rows.lease import end_lease, take_lease
from rows.planner import by_keys

State = Delivery.State
# What a mail can only become that was taken.
TAKEN = [State.ACCEPTED, State.DELIVERED, State.BOUNCED, State.COMPLAINED]
# A sweep repeats so many calls of a message and asks for so many mails; the next one goes on.
CALLS, QUESTIONS = 20, 50
# So many answers that are not clear either, and it is left to another time.
PATIENCE = 2
# Providers keep what was sent for days at least, and what they have they have within minutes.
ASKED_FOR = timedelta(days=3)
ASKED_EVERY = 60
LEASE_SECONDS = 600.0


def settle_by_replay(now: datetime) -> int:
    """Calls in doubt are made again under their keys, within 0.8 of a key's life; returns how many mails that settled.

    A call that was taken before is not taken again, and one that was not is taken now: either way its mails are
    accepted. Only whole calls: one of which somebody decided a part otherwise is left alone, as is what must not go
    any more. Twice at the same time: a message's calls are one caller's. It stops where answers are not clear either.
    """
    way = provider()
    if not isinstance(way, Http) or way.replays_for is None:
        return 0
    since, settled = now - way.replays_for, 0
    # In no order, here and below: what is never clear must not keep the rest waiting.
    for message in _going(_with_doubts(since)).select_related("release__creator").order_by("?"):
        # A database that was put back to an earlier day repeats nothing.
        if not gate.may_send(now) or take_lease(message, seconds=LEASE_SECONDS) is None:
            continue
        try:
            settled += _replay(way, Mailing(message), since, now)
        except WordsRefused:
            continue
        except NotOpen:
            break
        finally:
            end_lease(message)
            way.close()
    return settled


def settle_by_search(now: datetime) -> int:
    """Mails in doubt that their provider knows by our mark are what it says; returns how many.

    One it does not know stays in doubt: none of them promises when its index is complete. Once a minute at most.
    """
    way = provider()
    if not isinstance(way, Http) or not way.searches:
        return 0
    if not cache.add("messaging.settle_by_search", 1, timeout=ASKED_EVERY):
        return 0
    settled, left = 0, QUESTIONS
    for message in _with_doubts(now - ASKED_FOR).order_by("?"):
        doubtful = _doubts(message).filter(offered_by=way.name, offered_at__gt=now - ASKED_FOR)
        asked = {message_id_of(message, one.pk): one for one in doubtful.order_by("?")[:left]}
        left -= len(asked)
        try:
            found = way.find(list(asked))
        except NotOpen:
            break
        settled += _record(message.pk, [(asked[name], answer) for name, answer in found.items()])
    way.close()
    return settled


def _with_doubts(since: datetime) -> QuerySet[Message]:
    """Messages at work since then of which something is in doubt, as their chunks count."""
    doubtful = Chunk.objects.filter(message=OuterRef("pk"), tally__has_key=State.UNKNOWN)
    return Message.objects.filter(Exists(doubtful), moved_at__gt=since)


def _going(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Those of which a mail may still leave."""
    not_recalled = Q(release__recalled_at=None) | Q(kind=Message.Kind.DIGEST)
    states = [Message.State.RUNNING, Message.State.DONE]
    return messages.filter(not_recalled, state__in=states, release__creator__paused_at=None)


def _doubts(message: Message) -> QuerySet[Delivery]:
    """The message's deliveries in doubt, by the chunks that count some."""
    within = Q(pk__in=[])
    for chunk in message.chunks.filter(tally__has_key=State.UNKNOWN).order_by("number")[:QUESTIONS]:
        within |= Q(contact__gt=chunk.after, contact__lte=chunk.until)
    return Delivery.objects.filter(within, message=message, state=State.UNKNOWN)


def _replay(way: Http, mailing: Mailing, since: datetime, now: datetime) -> int:
    """Makes the calls of one message again. How many mails that settled. Raises `NotOpen`."""
    message, settled, unclear = mailing.message, 0, 0
    for call in islice(_calls(way, message, since, now), CALLS):
        # Paused or taken back meanwhile: what is not made again now may still be later.
        if unclear == PATIENCE or not _going(Message.objects.filter(pk=message.pk)).exists():
            break
        answers = way.repeat(_mails(way, mailing, call, now))
        number = _record(message.pk, list(zip(call, answers, strict=True)))
        unclear += not number
        settled += number
    return settled


def _calls(way: Http, message: Message, since: datetime, now: datetime) -> Iterator[list[Delivery]]:
    """The calls of `message` that may be made again: whole, young enough, not done with, and to nobody who moved or left."""
    told = told_by(message)
    for chunk in message.chunks.filter(tally__has_key=State.UNKNOWN).order_by("?"):
        rows = Delivery.objects.of(chunk).filter(offered_by=way.name).with_recipient()
        doubtful = rows.filter(state=State.UNKNOWN, offered_at__gt=since)
        # Of one that was put back nobody knows whether it was offered once more since.
        doubtful = doubtful.exclude(reason=Delivery.Reason.RESTORED)
        # If the call before was not taken this one is: as what it says to people, to their addresses of now.
        going = doubtful.filter(may_go(told, now))
        if not way.shares_calls:
            yield from ([one] for one in going)
            continue
        named = set(doubtful.values_list("wave", "attempts"))
        named -= set(doubtful.exclude(pk__in=going.values("pk")).values_list("wave", "attempts"))
        calls: dict[tuple[int | None, int], list[Delivery]] = defaultdict(list)
        # One that was refused was not in it, or the whole call had its answer.
        for one in rows.filter(wave__in={wave for wave, _attempt in named}).exclude(state=State.FAILED):
            calls[one.wave, one.attempts].append(one)
        yield from (calls[name] for name in named & calls.keys() if _whole(calls[name], since))


def _whole(call: Iterable[Delivery], since: datetime) -> bool:
    """Whether nothing but the mail system's own answer has decided anything in it since."""
    known = [*TAKEN, State.UNKNOWN]
    return all(
        one.state in known
        and one.offered_at
        and one.offered_at > since
        and one.reason != Delivery.Reason.RESTORED
        for one in call
    )


def _mails(way: Http, mailing: Mailing, call: Sequence[Delivery], now: datetime) -> list[Mail]:
    """The call's mails as they were, as far as nobody changed a name since."""
    groups = group_names([one.contact_id for one in call], mailing.message.release, now=now)
    also = also_of(call)
    return [
        mailing.to(
            recipient_of(
                one,
                group=groups.get(one.contact_id, ""),
                date=one.offered_at or now,
                also=also.get(one.pk, ()),
                call=call_name((one.wave if way.shares_calls else None) or one.pk, one.attempts),
            )
        )
        for one in call
    ]


def _record(message_id: int, found: Sequence[tuple[Delivery, Answer]]) -> int:
    """What is proved is written down, unless it is settled already. How many. Twice: 0."""
    became = {Kind.ACCEPTED: State.ACCEPTED, Kind.REFUSED: State.FAILED}
    settled = 0
    with transaction.atomic():
        for one, answer in found:
            if answer.kind in became:
                settled += Delivery.objects.filter(
                    pk=one.pk, attempts=one.attempts, state=State.UNKNOWN
                ).update(
                    state=became[answer.kind],
                    reason=answer.said,
                    smtp_code=answer.code,
                    provider_id=answer.provider_id,
                )
    if settled:
        recount(message_id, [one.contact_id for one, _answer in found])
    return settled


# --- by the relay's log ---------------------------------------------------------------------------------

# A worker that was stopped and goes on may still hold a connection to the relay: until the relay has hung up on it
# (Postfix after 300 s) its mail may still be taken.
GRACE = timedelta(minutes=10)
# Of so many other mails of ours in a log one has to be known here, or it is some other relay's.
WITNESSES = 500
BATCH = 500


@dataclass(frozen=True)
class Settlement:
    """What a log settled, in mails."""

    accepted: int = 0
    bounced: int = 0
    # Certainly not taken: offered again, or not any more as the message was taken back meanwhile.
    planned: int = 0
    cancelled: int = 0
    # Still in doubt.
    left: int = 0
    # Whether mails of ours are in the log at all.
    known: bool = False


@dataclass(frozen=True)
class _Doubt:
    message_id: int
    contact_id: int
    request: str
    attempts: int
    # By the relay, and by no provider that keeps a log of its own.
    relayed: bool


def settle_by_log(
    lines: Iterable[str], *, now: datetime, complete: bool = False, grace: timedelta = GRACE
) -> Settlement:
    """Mails in doubt that the relay's log shows it took are accepted, or came back.

    With `complete` an operator says that the log covers all that the relay did since the oldest doubt. Then those it
    does not show were certainly not taken: they are planned again, their slot and their cap being used already, or
    cancelled with their message. Not what moved within `grace`, which is longer than a lease and than a relay waits
    for an idle client; not what a line names in a way we do not know; and nothing, if the log knows no mail of ours.
    Twice: nothing changes.
    """
    doubts = _all_doubts()
    fates, known = _fates(lines, doubts)
    taken = [pk for pk, seen in fates.items() if seen.fate == Fate.TAKEN]
    back = [pk for pk, seen in fates.items() if seen.fate == Fate.BOUNCED]
    accepted = _taken(taken, doubts)
    bounced = _came_back(fates, back, doubts, now)
    planned = cancelled = 0
    if complete and known:
        lost = [pk for pk in doubts if pk not in fates or fates[pk].fate == Fate.BEGUN]
        planned, cancelled = _not_taken(lost, doubts, now, grace)
    left = len(doubts) - accepted - bounced - planned - cancelled
    return Settlement(accepted, bounced, planned, cancelled, left, known)


def _all_doubts() -> dict[int, _Doubt]:
    """Everything that is in doubt, by its delivery."""
    found = {}
    chunks = Chunk.objects.filter(Q(tally__has_key=State.UNKNOWN) | Q(lease_until__isnull=False))
    for chunk in chunks.select_related("message").order_by("message", "number"):
        request = chunk.message.request_id
        for one in Delivery.objects.of(chunk).filter(state=State.UNKNOWN):
            found[one.pk] = _Doubt(
                one.message_id,
                one.contact_id,
                request.hex if request else "",
                one.attempts,
                _relayed(one),
            )
    return found


def _relayed(delivery: Delivery) -> bool:
    """Whether it went to the relay, if it went at all. Of what a restored database does not know any more: as all does."""
    if delivery.reason == Delivery.Reason.RESTORED and not delivery.offered_by:
        return isinstance(provider(), Smtp)
    return delivery.offered_by == Smtp.name


def _fates(lines: Iterable[str], doubts: dict[int, _Doubt]) -> tuple[dict[int, Seen], bool]:
    """The furthest that `lines` show of each doubt, and whether they show any mail that is ours at all."""
    fates: dict[int, Seen] = {}
    others: dict[int, str] = {}
    for seen in read(lines, sender=parseaddr(settings.MAIL_FROM)[1]):
        doubt = doubts.get(seen.delivery)
        if doubt is not None and doubt.request == seen.request:
            before = fates.get(seen.delivery)
            if before is None or seen.fate > before.fate:
                fates[seen.delivery] = seen
        elif seen.fate >= Fate.TAKEN and len(others) < WITNESSES:
            others[seen.delivery] = seen.request
    if any(seen.fate >= Fate.TAKEN for seen in fates.values()):
        return fates, True
    rows = Delivery.objects.filter(pk__in=list(others)).values_list("pk", "message__request_id")
    return fates, any(request and request.hex == others[pk] for pk, request in rows)


def _taken(pks: Sequence[int], doubts: dict[int, _Doubt]) -> int:
    return sum(_became(some, doubts, State.ACCEPTED) for _message, some in _by_message(pks, doubts))


def _came_back(fates: dict[int, Seen], pks: Sequence[int], doubts: dict[int, _Doubt], now: datetime) -> int:
    """Those whose address is not there came back for good; the others were refused, which says nothing of theirs."""
    bounced = 0
    for message_id, some in _by_message(pks, doubts):
        nowhere = [pk for pk in some if names_nobody(fates[pk].said)]
        refused = [pk for pk in some if pk not in nowhere]
        gone = sum(_became([pk], doubts, State.BOUNCED, fates[pk].said) for pk in nowhere)
        bounced += gone + sum(_became([pk], doubts, State.FAILED, fates[pk].said) for pk in refused)
        for address in Delivery.objects.filter(pk__in=nowhere).values_list("address_key", flat=True):
            silence(address, Suppression.Reason.BOUNCE, message_id=message_id, now=now)
        if gone:
            count_bounce(message_id, gone, now=now)
    return bounced


def _not_taken(
    pks: Sequence[int], doubts: dict[int, _Doubt], now: datetime, grace: timedelta
) -> tuple[int, int]:
    """Those of `pks` that went to the relay long enough ago are planned again, or cancelled with their message."""
    planned = cancelled = 0
    for message_id, some in _by_message([pk for pk in pks if doubts[pk].relayed], doubts):
        with transaction.atomic():
            # Its lock is what pausing, cancelling and sending once more take too.
            locked = Message.objects.select_for_update(no_key=True, of=("self",)).select_related("release")
            message = locked.get(pk=message_id)
            if not _rested(message, now - grace):
                continue
            recalled = message.release.recalled_at and message.kind != Message.Kind.DIGEST
            if recalled or message.state == Message.State.CANCELLED:
                cancelled += _became(some, doubts, State.CANCELLED, Delivery.Reason.CANCELLED)
            elif number := _became(some, doubts, State.PLANNED):
                planned += number
                reopen(message, [doubts[pk].contact_id for pk in some], now)
    return planned, cancelled


def _rested(message: Message, until: datetime) -> bool:
    """Whether no worker has had anything of it since then: each began and ended with `moved_at`."""
    held = Chunk.objects.filter(message=message, lease_until__gt=db_now())
    return message.moved_at is not None and message.moved_at < until and not held.exists()


def _by_message(pks: Iterable[int], doubts: dict[int, _Doubt]) -> Iterator[tuple[int, list[int]]]:
    """`pks` in pages, each of one message."""
    found: dict[int, list[int]] = defaultdict(list)
    for pk in pks:
        found[doubts[pk].message_id].append(pk)
    for message_id, all_of_it in found.items():
        for at in range(0, len(all_of_it), BATCH):
            yield message_id, all_of_it[at : at + BATCH]


def _became(pks: Sequence[int], doubts: dict[int, _Doubt], state: State, reason: str = "") -> int:
    """Those of `pks` (of one message) that are in doubt as they were are in `state`. How many."""
    same: dict[int, list[int]] = defaultdict(list)
    for pk in pks:
        same[doubts[pk].attempts].append(pk)
    with by_keys():
        number = sum(
            Delivery.objects.filter(pk__in=some, attempts=attempts, state=State.UNKNOWN).update(
                state=state, reason=reason, smtp_code=None, not_before=None
            )
            for attempts, some in same.items()
        )
    if number:
        recount(doubts[pks[0]].message_id, [doubts[pk].contact_id for pk in pks])
    return number

"""One mail a person: what two messages of a creator owe the same contact at the same time is told in one (M5)."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.db.models import OuterRef, Q, QuerySet, Subquery

from messaging import recipient_cap
from messaging.contents import still_given
from messaging.models import Chunk, Delivery, Message
from messaging.services.source import TELLING
from rows.planner import by_keys
from rows.sets import among

State, Reason = Delivery.State, Delivery.Reason

# What changed outside the chunk: contacts by message, to be counted anew once it is committed.
Elsewhere = dict[int, list[int]]


def absorb(chunk: Chunk, *, creator_id: int, now: datetime) -> Elsewhere:
    """What else is due from the same creator to those still planned in `chunk` is told in the chunk's mails.

    Planned deliveries of messages that are due and held ones become `skipped`/`merged`, their `told_in` is the mail
    that tells of them; what they told of themselves follows. What another worker is writing down at this instant is
    left alone: it goes by itself. Returns the changed deliveries' contacts by message; their chunks have to be
    counted after the commit. Twice: nothing changes.

    Part of the transaction that opens the chunk, under the creator's lock: two openings never absorb each other.
    """
    elsewhere = tell_after_all(_not_going(chunk))
    within = {"contact__gt": chunk.after, "contact__lte": chunk.until}
    due = Delivery.objects.filter(_owed(chunk, creator_id, now), **within)
    # Skipping what is locked, as we hold locks ourselves: waiting for each other would cost one of us its work.
    rows = due.order_by("pk").select_for_update(skip_locked=True, no_key=True, of=("self",))
    found_due = list(rows.values_list("pk", "message_id", "contact_id", "grant_id"))
    given = still_given(row[3] for row in found_due)
    owed = [row[:3] for row in found_due if row[3] in given]
    teller = Delivery.objects.filter(message=chunk.message_id, contact=OuterRef("contact"))
    # A mail that was offered before stays what it was: under its key it must not change.
    written = Delivery.objects.of(chunk).filter(state=State.PLANNED, attempts=0).order_by()
    asked = set(written.values_list("contact_id", flat=True)) if owed else set()
    if found := [row for row in owed if row[2] in asked]:
        ids = [pk for pk, _message, _contact in found]
        recipient_cap.give_back(Delivery.objects.filter(pk__in=ids), creator_id=creator_id)
        Delivery.objects.filter(pk__in=ids).update(
            state=State.SKIPPED, reason=Reason.MERGED, not_before=None, told_in=Subquery(teller.values("pk"))
        )
        _follow(ids)
        _note(elsewhere, found)
    if chunk.message.kind == Message.Kind.DIGEST:
        _drop_empty(chunk, creator_id)
    return elsewhere


def tell_after_all(tellers: QuerySet[Delivery]) -> Elsewhere:
    """What was told in mails that do not go waits for the digest again. Twice: nothing changes.

    Returns what `absorb` returns.
    """
    # Their keys and not the question for them: as one statement it was a walk over everybody's deliveries.
    ids = list(tellers.order_by().values_list("pk", flat=True))
    told = Delivery.objects.filter(among("told_in", ids), reason=Reason.MERGED)
    # A digest that was absorbed was about deliveries that are told anew by themselves.
    told = told.exclude(message__kind=Message.Kind.DIGEST)
    with by_keys():
        found = list(told.values_list("pk", "message_id", "contact_id"))
    Delivery.objects.filter(pk__in=[row[0] for row in found]).update(
        state=State.HELD, reason="", told_in=None
    )
    elsewhere: Elsewhere = defaultdict(list)
    _note(elsewhere, found)
    return elsewhere


def _owed(chunk: Chunk, creator_id: int, now: datetime) -> Q:
    """The deliveries of the creator's other messages that are due or wait for the digest."""
    others = Message.objects.filter(release__creator=creator_id).exclude(pk=chunk.message_id)
    due = list(others.due(now).values_list("pk", flat=True))
    holding = list(others.filter(held__gt=0, state__in=TELLING).values_list("pk", flat=True))
    return Q(message__in=due, state__in=[State.PLANNED, State.HELD]) | Q(
        message__in=holding, state=State.HELD
    )


def _not_going(chunk: Chunk) -> QuerySet[Delivery]:
    """Those of the chunk that were to tell of more than themselves, and were taken back or are over the cap since."""
    over = Q(state=State.SKIPPED, reason=Reason.CAP)
    return Delivery.objects.of(chunk).filter(Q(state=State.CANCELLED) | over)


def _follow(absorbed: Iterable[int]) -> None:
    """What was told in the absorbed is told where they are."""
    teller = Delivery.objects.filter(pk=OuterRef("told_in"))
    following = Delivery.objects.filter(among("told_in", absorbed))
    with by_keys():
        following.update(told_in=Subquery(teller.values("told_in")))


def _drop_empty(chunk: Chunk, creator_id: int) -> None:
    """A digest is not mailed to whom it tells nothing: another mail was faster, or all of it was taken back."""
    planned = set(
        Delivery.objects.of(chunk).filter(state=State.PLANNED).order_by().values_list("pk", flat=True)
    )
    with by_keys():
        told = list(Delivery.objects.filter(among("told_in", planned)).values_list("told_in", "grant_id"))
    given = still_given(grant_id for _teller, grant_id in told)
    empty = list(planned.difference(teller for teller, grant_id in told if grant_id in given))
    recipient_cap.give_back(Delivery.objects.filter(among("pk", empty)), creator_id=creator_id)
    Delivery.objects.filter(among("pk", empty)).update(state=State.SKIPPED, reason=Reason.MERGED)


def _note(elsewhere: Elsewhere, rows: Iterable[tuple[int, int, int]]) -> None:
    for _pk, message_id, contact_id in rows:
        elsewhere[message_id].append(contact_id)

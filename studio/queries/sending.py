"""What became of the mails, by name, and what a release has reached."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.http import QueryDict

from distribution.models import Release
from distribution.services import turnout
from messaging.models import Delivery, Message
from messaging.services import next_deliveries
from messaging.services.reminders import earliest
from rows.sets import among
from studio.keyset import KeysetPage, Order, turn, turn_rows
from studio.queries.releases import Numbers
from studio.queries.search import FEW, found_by

BY_CONTACT = Order(("contact_id",))


@dataclass(frozen=True)
class Reached:
    """How far a release came, in people."""

    granted: int
    holding: int
    waiting: int
    downloaded: int


def reached(release: Release) -> Reached:
    """Two counts, of those who redeemed and those who downloaded, whatever the size of the release."""
    came = turnout(release)
    holding = min(release.granted, release.held + came.redeemed)
    return Reached(
        granted=release.granted,
        holding=holding,
        waiting=release.granted - holding,
        downloaded=came.downloaded,
    )


@dataclass(frozen=True)
class Reminding:
    """Whether people can be reminded of a release, from when on, and how many there are to remind."""

    waiting: int
    can_begin: bool
    # It can be written now and goes from then on.
    possible_at: datetime
    too_early: bool


def reminding(
    release: Release, numbers: Numbers, others: Iterable[Message], *, now: datetime
) -> Reminding | None:
    """None where no reminder belongs: it was sent already, or there is nothing to remind of."""
    waiting = max(0, release.granted - numbers.at_once - numbers.redeemed)
    reminded = any(message.kind == Message.Kind.REMINDER for message in others)
    if reminded or release.state != Release.State.PUBLISHED or not release.granted:
        return None
    at = earliest(release)
    return Reminding(waiting=waiting, can_begin=bool(waiting), possible_at=at, too_early=at > now)


@dataclass(frozen=True)
class Undelivered:
    """Somebody whom a mail did not reach, and in which mail they were told of it instead, if in any."""

    delivery: Delivery
    told_in: Delivery | None


def undelivered(message: Message, state: str, asked: QueryDict, *, q: str, size: int) -> KeysetPage[Delivery]:
    """The deliveries of `message` in one of `steering.UNDELIVERED`, with their contacts and grants."""
    rows = Delivery.objects.select_related("contact", "grant")
    if q and message.planned > FEW:
        # Those who are called so are few: each is looked up, wherever the chunks say that the state is.
        called = among("contact_id", found_by(q, message.release.creator_id).contacts)
        hits = rows.filter(called | Q(address_key=q.lower()), message=message, state=state)
        return turn_rows(hits, asked, order=BY_CONTACT, size=size)
    if q:
        rows = rows.filter(Q(contact__name__icontains=q) | Q(address_key__icontains=q))

    def take(order: Order, start: int | None, size: int) -> list[Delivery]:
        return next_deliveries(rows, message, state, after=start, downwards=order.downwards, number=size)

    return turn(take, asked, order=BY_CONTACT, size=size)


def with_teller(deliveries: Iterable[Delivery]) -> list[Undelivered]:
    """Each with the mail that told of it too: one query for a page."""
    deliveries = list(deliveries)
    tellers = Delivery.objects.select_related("message__release").in_bulk(
        [delivery.told_in for delivery in deliveries if delivery.told_in]
    )
    return [Undelivered(delivery, tellers.get(delivery.told_in or 0)) for delivery in deliveries]

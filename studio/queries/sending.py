"""What became of the mails, by name, and what a release has reached."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.utils.functional import cached_property

from distribution.models import Release
from messaging.models import Delivery, Message
from messaging.services import deliveries_in
from messaging.services.reminders import earliest
from studio.queries.releases import Numbers, downloaders


@dataclass(frozen=True)
class Reached:
    """How far a release came, in people."""

    granted: int
    holding: int
    waiting: int
    downloaded: int


def reached(release: Release) -> Reached:
    """Two counts, of those who redeemed and those who downloaded, whatever the size of the release."""
    redeemed = release.grants.filter(redeemed_at__isnull=False).count()
    holding = min(release.granted, release.held + redeemed)
    return Reached(
        granted=release.granted,
        holding=holding,
        waiting=release.granted - holding,
        downloaded=downloaders(release).count(),
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


def undelivered(message: Message, state: str, *, q: str) -> QuerySet[Delivery]:
    """The deliveries of `message` in one of `steering.UNDELIVERED`, with their contacts and grants."""
    found = deliveries_in(message, Delivery.State(state)).select_related("contact", "grant")
    if q:
        found = found.filter(Q(contact__name__icontains=q) | Q(address_key__icontains=q))
    return found


def with_teller(deliveries: Iterable[Delivery]) -> list[Undelivered]:
    """Each with the mail that told of it too: one query for a page."""
    deliveries = list(deliveries)
    tellers = Delivery.objects.select_related("message__release").in_bulk(
        [delivery.told_in for delivery in deliveries if delivery.told_in]
    )
    return [Undelivered(delivery, tellers.get(delivery.told_in or 0)) for delivery in deliveries]


class CountedPages(Paginator):  # type: ignore[type-arg]  # not subscriptable at run time
    """Pages of rows whose number is known already: a million are not counted again for each look."""

    def __init__(self, found: QuerySet[Delivery], size: int, *, known: int | None) -> None:
        super().__init__(found, size)
        self.known = known

    @cached_property
    def count(self) -> int:
        return super().count if self.known is None else self.known

"""The people of a release, a page at a time: all of them, those in one state, those somebody looks for."""

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import QueryDict

from distribution.models import Grant, Release
from distribution.services import taken_by, turnout
from messaging.models import Delivery, Message
from messaging.services import next_deliveries, tallied
from rows.sets import among
from studio.keyset import KeysetPage, Order, turn
from studio.queries.releases import MAILED
from studio.queries.search import FEW, Search, Stretch, called

BY_CONTACT = Order(("contact_id",))
LAST_TO_REDEEM = Order(("redeemed_at", "id"), downwards=True)
WAITING = Q(redeemed_at=None, contact__account=None)


@dataclass(frozen=True)
class People:
    """A page of grants; how many there are, if somebody counted; whether some who are searched for may be missing."""

    page: KeysetPage[Grant]
    number: int | None
    partly: bool = False


def recipients(
    release: Release, message: Message, asked: QueryDict, *, state: str, q: str, size: int
) -> People:
    """The people of a release in one state, by the states of `words.STATES_OF_PEOPLE`."""
    listed = _Listed(release, message, state)
    order = LAST_TO_REDEEM if state == "redeemed" else BY_CONTACT
    if not q:
        return People(turn(listed.first, asked, order=order, size=size), listed.number())
    if release.granted <= FEW:
        hits = called(listed.rows(), q)
        few = turn(lambda order, start, size: _page(hits, order, start, size), asked, order=order, size=size)
        return People(few, hits.count())
    search = Search[Grant](q, release.creator_id)

    def take(order: Order, start: int | None, size: int) -> list[Grant]:
        return search.take(
            size,
            near=lambda number: listed.near(order, start, number),
            beyond=listed.rows(),
            page=lambda rows: _page(rows, order, start, size),
        )

    page = turn(take, asked, order=order, size=size)
    return People(page, None if page.has_other_pages else len(page), search.partly)


@dataclass(frozen=True)
class _Listed:
    """Those of a release in one state."""

    release: Release
    message: Message
    state: str

    @property
    def states_of_mail(self) -> list[str]:
        if self.state == Delivery.State.ACCEPTED:
            return list(MAILED)
        return [self.state] if self.state in Delivery.State else []

    def rows(self) -> QuerySet[Grant]:
        told = Delivery.objects.filter(message=self.message, contact=OuterRef("contact"))
        conditions = {
            "waiting": WAITING,
            "library": ~WAITING,
            "redeemed": Q(redeemed_at__isnull=False),
            "revoked": Q(revoked_at__isnull=False),
        }
        if states := self.states_of_mail:
            conditions[self.state] = Q(Exists(told.filter(state__in=states)))
        if self.state == "downloaded":
            conditions[self.state] = Q(taken_by(self.release, "contact__account"))
        return Grant.objects.filter(conditions.get(self.state, Q()), release=self.release)

    def first(self, order: Order, start: int | None, size: int) -> list[Grant]:
        """The first `size` of them from `start` on."""
        if not self.states_of_mail:
            return _page(self.rows(), order, start, size)
        # Few or many, the mails' chunks say where they are.
        found = next_deliveries(
            Delivery.objects.only("contact_id"),
            self.message,
            *self.states_of_mail,
            after=start,
            downwards=order.downwards,
            number=size,
        )
        told = among("contact_id", [delivery.contact_id for delivery in found])
        return _page(Grant.objects.filter(told, release=self.release), order, None, size)

    def near(self, order: Order, start: int | None, number: int) -> Stretch[Grant]:
        """Those among the next `number` grants from `start` on."""
        # By the moment of redeeming only those are in order who have redeemed.
        rows = self.rows() if self.state == "redeemed" else Grant.objects.filter(release=self.release)
        numbers = list(order.of(order.beyond(rows, start)).values_list("pk", flat=True)[:number])
        return Stretch(self.rows().filter(among("id", numbers)), complete=len(numbers) < number)

    def number(self) -> int | None:
        """How many there are: of a large release what is known without counting them."""
        if self.release.granted <= FEW or self.state == "revoked":
            return self.rows().count()
        if self.states_of_mail:
            counts = tallied([self.message.pk], leased=True)[self.message.pk]
            return sum(counts[state] for state in self.states_of_mail)
        if self.state in {"redeemed", "downloaded"}:
            came = turnout(self.release)
            return came.redeemed if self.state == "redeemed" else came.downloaded
        return None if self.state else self.release.granted


def _page(rows: QuerySet[Grant], order: Order, start: int | None, size: int) -> list[Grant]:
    # First who they are, by an index alone; joined with all contacts the database might begin with those.
    numbers = list(order.of(order.beyond(rows, start)).values_list("pk", flat=True)[:size])
    whole = Grant.objects.select_related("contact").in_bulk(numbers)
    return [whole[number] for number in numbers if number in whole]

"""The people of a group, a page at a time, whatever its size and whoever else is in the database."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Q, QuerySet
from django.http import QueryDict

from groups.models import Group, Membership
from groups.services import people_of
from rows.sets import among
from studio.keyset import KeysetPage, Order, turn
from studio.queries.search import FEW, Search, Stretch, called

NEWEST = Order(("recorded_at", "id"), downwards=True)
LAST_TO_LEAVE = Order(("ended_at", "id"), downwards=True)


@dataclass(frozen=True)
class Members:
    """A page of memberships; how many there are, if somebody counted; whether some who are searched for may be missing."""

    page: KeysetPage[Membership]
    number: int | None
    partly: bool = False


def members(
    group: Group,
    asked: QueryDict,
    *,
    q: str = "",
    sub_group: int | None = None,
    ended: bool = False,
    size: int,
    now: datetime,
) -> Members:
    """Who belongs, newest first, or with `ended` who left, the last first: of a whole tree, or of one group in it."""
    tree = Group.objects.filter(Q(pk=group.pk) | Q(parent=group.pk))
    groups = list(tree.filter(pk=sub_group) if sub_group is not None else tree)
    listed = _Listed([one.pk for one in groups], ended, now)
    number = listed.few() if ended else sum(people_of(groups, now=now).values())
    order = LAST_TO_LEAVE if ended else NEWEST
    if not q:
        return Members(turn(listed.first, asked, order=order, size=size), number)
    if number is not None and number <= FEW:
        hits = called(listed.rows(), q)
        page = turn(
            lambda order, start, size: _whole(order.beyond(hits, start), order, size),
            asked,
            order=order,
            size=size,
        )
        return Members(page, hits.count())
    search = Search[Membership](q, group.creator_id)

    def take(order: Order, start: int | None, size: int) -> list[Membership]:
        return search.take(
            size,
            near=lambda number: listed.near(order, start, number),
            beyond=order.beyond(listed.rows(), start),
            page=lambda rows: _whole(rows, order, size),
        )

    page = turn(take, asked, order=order, size=size)
    return Members(page, None if page.has_other_pages else len(page), search.partly)


@dataclass(frozen=True)
class _Listed:
    """The memberships of some groups that are live, or those that have ended."""

    groups: list[int]
    ended: bool
    now: datetime

    def rows(self) -> QuerySet[Membership]:
        rows = Membership.objects.filter(group__in=self.groups)
        return rows.filter(ended_at__lte=self.now) if self.ended else rows.live(self.now)

    def few(self) -> int | None:
        """How many there are; None if they are too many to be counted."""
        number = self.rows()[: FEW + 1].count()
        return number if number <= FEW else None

    def first(self, order: Order, start: int | None, size: int) -> list[Membership]:
        return _whole(self.near(order, start, size).rows, order, size)

    def near(self, order: Order, start: int | None, number: int) -> Stretch[Membership]:
        """The next `number` from `start` on.

        Each group is asked for its own, by an index that has them in this order: asked for all groups together, the
        database would go through everybody's, a neighbour's million among them.
        """
        rows = order.of(order.beyond(self.rows(), start)).values_list(*order.fields)
        heads = [rows.filter(group=group)[:number] for group in self.groups]
        if len(heads) < 2 or not connection.features.supports_slicing_ordering_in_compound:
            found = [row for head in heads for row in head]
        else:
            found = list(heads[0].union(*heads[1:], all=True))
        found.sort(reverse=order.downwards)
        numbers = [row[-1] for row in found[:number]]
        return Stretch(Membership.objects.filter(among("id", numbers)), complete=len(found) < number)


def _whole(rows: QuerySet[Membership], order: Order, size: int) -> list[Membership]:
    """The first `size` of these rows with all that a page shows, chosen by their ids alone."""
    # In an order of which no index knows: by one the database might walk through everybody's to find these few.
    found = sorted(rows.order_by().values_list(*order.fields), reverse=order.downwards)[:size]
    whole = Membership.objects.select_related("contact", "group").in_bulk([row[-1] for row in found])
    return [whole[row[-1]] for row in found if row[-1] in whole]

"""Long lists are turned page by page from the row one has come to, never by counting off what lies before it.

An address names the row (`?after=812` is what follows row 812 in the list's order, `?before=812` what precedes it), so
it leads to the same people whoever joins or leaves meanwhile, and the ten-thousandth page costs what the first does.
How many pages there are nobody knows without counting, so no page says so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import F, Func, Model, QuerySet, TextField, Value
from django.db.models.lookups import GreaterThan, LessThan
from django.http import QueryDict

from studio.scope import row_number

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Order:
    """The fields a list goes by, all upwards or all downwards, the last of them unique: it names the row."""

    fields: tuple[str, ...]
    downwards: bool = False

    @property
    def names(self) -> str:
        return self.fields[-1]

    def turned(self) -> "Order":
        return Order(self.fields, not self.downwards)

    def of(self, rows: QuerySet[Row]) -> QuerySet[Row]:
        """`rows` in this order."""
        return rows.order_by(*(f"-{name}" if self.downwards else name for name in self.fields))

    def beyond(self, rows: QuerySet[Row], number: int | None) -> QuerySet[Row]:
        """Those of `rows` that come after the row with this number; if there is none, all of them."""
        if number is None:
            return rows
        if len(self.fields) == 1:
            return rows.filter(**{f"{self.names}__{'lt' if self.downwards else 'gt'}": number})
        # Where that row stands now, be it on the list or not any more.
        start = rows.model._default_manager.filter(**{self.names: number})
        values = start.values_list(*self.fields).first()
        if values is None or None in values:
            return rows
        here, there = _Row(*map(F, self.fields)), _Row(*map(Value, values))
        return rows.filter(LessThan(here, there) if self.downwards else GreaterThan(here, there))


class _Row(Func):
    """(a, b), to be compared with another: one range of an index, however many rows share the same `a`."""

    template = "(%(expressions)s)"
    output_field = TextField()


@dataclass(frozen=True)
class KeysetPage(Generic[Row]):
    """Some rows of a list, and the numbers of the rows at its ends if there is more beyond them."""

    object_list: list[Row]
    # What the links carry; None where nothing lies there.
    before: int | None
    after: int | None

    def __iter__(self) -> Iterator[Row]:
        return iter(self.object_list)

    def __len__(self) -> int:
        return len(self.object_list)

    @property
    def has_other_pages(self) -> bool:
        return self.before is not None or self.after is not None


# The rows that come next from a row on (None: from the beginning), at most so many, in the order asked for.
Take = Callable[[Order, int | None, int], list[Row]]


def turn(take: "Take[Row]", asked: QueryDict, *, order: Order, size: int) -> KeysetPage[Row]:
    """The page that an address asks for. One that leads past either end shows the page at that end."""
    after, before = row_number(asked.get("after", "")), row_number(asked.get("before", ""))
    if before:
        found = take(order.turned(), before, size + 1)
        if len(found) > size:
            return _page(found[:size][::-1], order, earlier=True, later=True)
        # What is left before it is less than a page, or nothing: the list from its beginning.
        after = 0
    found = take(order, after or None, size + 1)
    if after and not found:
        last = take(order.turned(), None, size + 1)
        return _page(last[:size][::-1], order, earlier=len(last) > size, later=False)
    return _page(found[:size], order, earlier=bool(after), later=len(found) > size)


def turn_rows(rows: QuerySet[Row], asked: QueryDict, *, order: Order, size: int) -> KeysetPage[Row]:
    """The page of a list that one query finds."""

    def take(order: Order, start: int | None, number: int) -> list[Row]:
        return list(order.of(order.beyond(rows, start))[:number])

    return turn(take, asked, order=order, size=size)


def _page(rows: list[Row], order: Order, *, earlier: bool, later: bool) -> KeysetPage[Row]:
    numbers = [getattr(row, order.names) for row in (rows[:1] + rows[-1:])]
    return KeysetPage(
        rows,
        before=numbers[0] if numbers and earlier else None,
        after=numbers[-1] if numbers and later else None,
    )

"""From the cells of a row to a person, and from a whole file to what it holds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final, Self

from groups.imports.dates import order_of, read_instant
from groups.imports.formats import Field, Format, plain
from groups.imports.reading import BadRow, Layout, Row
from groups.imports.values import ValueRefused, read_address, read_name, read_outside_id, shown

FREE_MEMBER: Final = "Free member"  # the status we give to those whom a column of their own calls so
LONGEST_TIER: Final = 200
SURVEYED_ROWS: Final = 200_000
MOST_VALUES: Final = 200  # of statuses or tiers; a column with more of them holds something else


@dataclass(frozen=True, slots=True)
class Person:
    """What one row says of one person. With a `problem`, the fields that could be read are there all the same."""

    line: int
    address_key: str = ""
    name: str = ""
    name_cleaned: bool = False
    outside_id: str = ""
    tier: str = ""
    status: str = ""
    since: datetime | None = None
    until: datetime | None = None
    end_unread: BadRow | None = None  # there is an end, and nobody can tell when
    problem: BadRow | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds, before anybody chose anything. Values as they are written, most frequent first."""

    rows: int
    whole: bool  # False: a very long file, of which the first SURVEYED_ROWS were counted
    statuses: Mapping[str, int]
    tiers: Mapping[str, int]  # of those whose status makes them members

    def as_json(self) -> dict[str, Any]:
        # Lists, as a JSON object may come back from the database in another order.
        return {
            "rows": self.rows,
            "whole": self.whole,
            "statuses": list(self.statuses.items()),
            "tiers": list(self.tiers.items()),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        return cls(kept["rows"], kept["whole"], dict(kept["statuses"]), dict(kept["tiers"]))


def find_indexes(columns: Mapping[Field, str], layout: Layout) -> dict[Field, int]:
    """Where in a row each chosen column stands."""
    return {field: layout.columns.index(column) for field, column in columns.items()}


def read_person(
    row: Row, columns: Mapping[Field, int], labels: tuple[str, ...], *, day_first: bool | None = None
) -> Person:
    """The person this row speaks of; never raises, what cannot be used is its `problem`."""
    read: dict[str, Any] = {}
    problem: BadRow | None = None
    read_date = partial(read_instant, day_first=day_first)

    def cell(field: Field) -> str:
        return row.cells[columns[field]] if field in columns else ""

    try:
        found = read_address(cell(Field.ADDRESS))
        read["address_key"], read["name"] = found.key, found.name
    except ValueRefused as refused:
        problem = _problem(row, labels[columns[Field.ADDRESS]], refused, cell(Field.ADDRESS))
    for field, into, reader in (
        (Field.OUTSIDE_ID, "outside_id", read_outside_id),
        (Field.SINCE, "since", read_date),
        (Field.UNTIL, "until", read_date),
    ):
        try:
            read[into] = reader(cell(field))
        except ValueRefused as refused:
            found_bad = _problem(row, labels[columns[field]], refused, cell(field))
            problem = problem or found_bad
            if field is Field.UNTIL:
                read["end_unread"] = found_bad
    try:
        name = read_name(cell(Field.NAME) or read.get("name", ""))
        read["name"], read["name_cleaned"] = name.text, name.changed
    except ValueRefused as refused:
        read["name"] = ""
        problem = problem or _problem(
            row, labels[columns.get(Field.NAME, columns[Field.ADDRESS])], refused, cell(Field.NAME)
        )
    return Person(
        line=row.line,
        tier=_tier_of(cell(Field.TIER)),
        status=status_of(row, columns),
        problem=problem,
        **read,
    )


def status_of(row: Row, columns: Mapping[Field, int]) -> str:
    """The status as written, or FREE_MEMBER for one who pays nothing."""
    if Field.FREE in columns and plain(row.cells[columns[Field.FREE]]) in {"yes", "true", "1"}:
        return FREE_MEMBER
    return shown(row.cells[columns[Field.STATUS]].strip()) if Field.STATUS in columns else ""


def survey_rows(rows: Iterable[Row | BadRow], columns: Mapping[Field, int], form: Format) -> Survey:
    """Count statuses, and tiers of members, in at most SURVEYED_ROWS rows."""
    statuses: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    counted = 0
    iterator = iter(rows)
    for row in islice(iterator, SURVEYED_ROWS):
        counted += 1
        if isinstance(row, BadRow):
            continue
        status = status_of(row, columns)
        _count(statuses, status)
        if Field.TIER in columns and (not form.members or plain(status) in form.members):
            _count(tiers, _tier_of(row.cells[columns[Field.TIER]]))
    known_statuses = dict(statuses.most_common()) if Field.STATUS in columns else {}
    return Survey(counted, next(iterator, None) is None, known_statuses, dict(tiers.most_common()))


@dataclass(frozen=True, slots=True)
class Dates:
    """What a file as a whole says of its dates."""

    newest: datetime | None  # the instant it speaks of: its newest `Last Updated`
    day_first: (
        bool | None
    )  # whether 3/4/2027 is in April; None: nothing in it says so, or it is written both ways


def look_at_dates(rows: Iterable[Row | BadRow], columns: Mapping[Field, int]) -> Dates:
    """Every date of the file, read once."""
    dated = [columns[field] for field in (Field.SINCE, Field.UNTIL, Field.UPDATED) if field in columns]
    orders: set[bool] = set()
    newest: dict[bool, datetime] = {}  # under each reading
    for row in rows if dated else ():
        if not isinstance(row, Row):
            continue
        for index in dated:
            if (order := order_of(row.cells[index])) is not None:
                orders.add(order)
        for day_first in (True, False) if Field.UPDATED in columns else ():
            try:
                updated = read_instant(row.cells[columns[Field.UPDATED]], day_first=day_first)
            except ValueRefused:
                continue
            if updated and (day_first not in newest or updated > newest[day_first]):
                newest[day_first] = updated
    settled = orders.pop() if len(orders) == 1 else None
    agreed = newest.get(True) if newest.get(True) == newest.get(False) else None
    return Dates(newest=agreed if settled is None else newest.get(settled), day_first=settled)


def _tier_of(cell: str) -> str:
    return " ".join(cell.split())[:LONGEST_TIER]


def _count(counter: Counter[str], value: str) -> None:
    if value in counter or len(counter) < MOST_VALUES:
        counter[value] += 1


def _problem(row: Row, column: str, refused: ValueRefused, value: str) -> BadRow:
    return BadRow(row.line, column, str(refused), shown(value))

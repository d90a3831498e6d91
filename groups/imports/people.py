"""From the cells of a row to a person, and from a whole file to what it holds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, Self

from groups.imports.formats import Field, Format, plain
from groups.imports.reading import BadRow, Layout, Row
from groups.imports.values import ValueRefused, read_address, read_instant, read_name, read_outside_id, shown

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


def read_person(row: Row, columns: Mapping[Field, int], labels: tuple[str, ...]) -> Person:
    """The person this row speaks of; never raises, what cannot be used is its `problem`."""
    read: dict[str, Any] = {}
    problem: BadRow | None = None

    def cell(field: Field) -> str:
        return row.cells[columns[field]] if field in columns else ""

    try:
        found = read_address(cell(Field.ADDRESS))
        read["address_key"], read["name"] = found.key, found.name
    except ValueRefused as refused:
        problem = _problem(row, labels[columns[Field.ADDRESS]], refused, cell(Field.ADDRESS))
    for field, into, reader in (
        (Field.OUTSIDE_ID, "outside_id", read_outside_id),
        (Field.SINCE, "since", read_instant),
        (Field.UNTIL, "until", read_instant),
    ):
        try:
            read[into] = reader(cell(field))
        except ValueRefused as refused:
            problem = problem or _problem(row, labels[columns[field]], refused, cell(field))
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


def newest_update(rows: Iterable[Row | BadRow], columns: Mapping[Field, int]) -> datetime | None:
    """The instant a file speaks of: its newest `Last Updated`, None where no row has one."""
    if Field.UPDATED not in columns:
        return None
    newest: datetime | None = None
    for row in rows:
        if isinstance(row, Row):
            try:
                updated = read_instant(row.cells[columns[Field.UPDATED]])
            except ValueRefused:
                continue
            if updated and (newest is None or updated > newest):
                newest = updated
    return newest


def _tier_of(cell: str) -> str:
    return " ".join(cell.split())[:LONGEST_TIER]


def _count(counter: Counter[str], value: str) -> None:
    if value in counter or len(counter) < MOST_VALUES:
        counter[value] += 1


def _problem(row: Row, column: str, refused: ValueRefused, value: str) -> BadRow:
    return BadRow(row.line, column, str(refused), shown(value))

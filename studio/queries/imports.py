"""Imports: how they are read, how far they are, and what they come to."""

from dataclasses import dataclass

from django.http import QueryDict

from groups.imports.mapping import Mapping
from groups.imports.people import Survey
from groups.imports.reading import BadRow, Layout, Row
from groups.models import Group, Import, ImportRow, Membership
from groups.services import gone_memberships, preview_rows, summarise
from groups.services.imports import Summary
from studio.keyset import KeysetPage, Order, turn_rows
from studio.queries.groups import Joining, late_bundles


@dataclass(frozen=True)
class Rows:
    """Long work in numbers; without `total` nobody knows how long it is."""

    done: int
    total: int | None


def import_progress(run: Import) -> Rows:
    """How far the dry run or the applying has come, in rows."""
    survey = Survey.from_json(run.survey)
    total = summarise(run).rows if run.state == Import.State.APPLYING else survey.rows
    if run.state == Import.State.CHECKING and not survey.whole:
        return Rows(run.cursor, None)
    # The cursor is a line of the file; its heading and rows of several lines make it run a little ahead.
    return Rows(min(run.cursor, total), total)


@dataclass(frozen=True)
class Preview:
    """The first rows of a file, as far as its columns are used."""

    headings: list[str]
    rows: list[list[str]]
    problems: list[BadRow]
    unread: int


def import_preview(run: Import) -> Preview:
    """Five rows as they are read with the columns chosen so far."""
    layout = Layout.from_json(run.layout)
    headings = list(Mapping.from_json(run.mapping).columns.values())
    places = [layout.columns.index(heading) for heading in headings]
    read = preview_rows(run)
    return Preview(
        headings=headings,
        rows=[[row.cells[place] for place in places] for row in read if isinstance(row, Row)],
        problems=[row for row in read if isinstance(row, BadRow)],
        unread=len(layout.columns) - len(headings),
    )


GONE = "gone"
# What needs a look comes before what stays as it is.
PARTS = [
    ImportRow.Verdict.NEW,
    ImportRow.Verdict.CHANGED,
    ImportRow.Verdict.MOVED,
    ImportRow.Verdict.RETURNED,
    GONE,
    ImportRow.Verdict.UNMAPPED,
    ImportRow.Verdict.BAD,
    ImportRow.Verdict.DUPLICATE,
    ImportRow.Verdict.SKIPPED,
    ImportRow.Verdict.UNCHANGED,
]


def import_parts(summary: Summary) -> dict[str, int]:
    """The parts of a dry run that hold anybody, in the order they are looked at."""
    sizes = {**summary.verdicts, GONE: summary.gone}
    return {str(part): sizes[part] for part in PARTS if sizes[part]}


BY_LINE, BY_NUMBER = Order(("line",)), Order(("id",))


def import_page(
    run: Import, part: str, asked: QueryDict, *, size: int
) -> KeysetPage[ImportRow] | KeysetPage[Membership]:
    """Some rows of one part, in the file's order; of the gone their memberships, as they stand in no row."""
    if part == GONE:
        # Without its rows, all would seem to be gone.
        gone = gone_memberships(run) if run.stored_as else Membership.objects.none()
        gone = gone.select_related("contact", "group")
        return turn_rows(gone, asked, order=BY_NUMBER, size=size)
    rows = ImportRow.objects.filter(import_run=run, verdict=part).select_related("target", "contact")
    return turn_rows(rows, asked, order=BY_LINE, size=size)


def import_gains(run: Import, summary: Summary) -> list[Joining]:
    """For each group that people join by this import: how many, and what each of them gains."""
    found = []
    for group in Group.objects.filter(pk__in=summary.joining).select_related("parent"):
        hears_from = list(Group.objects.reaching([group]).select_related("parent"))
        found.append(Joining(group, summary.joining[group.pk], late_bundles(hears_from), hears_from))
    return found

"""The dry run: a worker reads the file in pages and writes down what each row would come to."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Count, F, Q
from django.utils.translation import gettext as _

from groups.imports.formats import FORMATS, Field, plain
from groups.imports.mail import columns_about_mail, wants_mail
from groups.imports.mapping import Mapping as Choices
from groups.imports.people import Person, find_indexes, look_at_dates, read_person
from groups.imports.reading import BadRow, Layout, Readable, Row, read_rows
from groups.imports.values import hint_of
from groups.models import Group, Import, ImportRow, OutsideId
from groups.services.contacts import own_addresses
from groups.services.judging import (
    gone_memberships,
    judge_rows,
    live_memberships,
    name_rows,
    unread_rows,
)
from groups.services.readdressing import possible_moves
from rows.lease import end_lease, keep_lease, take_lease
from rows.sets import among
from rows.statistics import renew_statistics

PAGE = 2_000
LEASE_SECONDS = 120

Verdict = ImportRow.Verdict
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Rules:
    """What every row of one import is held against."""

    choices: Choices
    columns: Mapping[Field, int]
    labels: tuple[str, ...]
    as_of: datetime
    targets: frozenset[int]
    own_addresses: frozenset[str]
    about_mail: Mapping[str, int]
    day_first: bool | None  # how this file writes 3/4/2027; None: nothing in it says so


def check_import(import_id: int, *, now: datetime, page: int = PAGE) -> bool:
    """The dry run of this import stands in its rows and counts. Returns whether it is finished.

    Pages are committed with the cursor, so a killed worker's successor goes on where it was, and comes to the same.
    Twice, or while another worker holds it: nothing happens. Changes no contact and no membership.
    """
    import_run = (
        Import.objects.filter(pk=import_id, state=Import.State.CHECKING)
        .select_related("group__creator")
        .first()
    )
    if import_run is None or take_lease(import_run, seconds=LEASE_SECONDS) is None:
        return False
    try:
        file = default_storage.open(import_run.stored_as)
    except FileNotFoundError:
        _refuse(import_run, _("The uploaded file is not there any more. Upload it again."))
        return False
    with file:
        return _check_file(import_run, file, now, page)


def _check_file(import_run: Import, file: Readable, now: datetime, page: int) -> bool:
    layout = Layout.from_json(import_run.layout)
    choices = Choices.from_json(import_run.mapping)
    columns = find_indexes(choices.columns, layout)
    dates = look_at_dates(read_rows(file, layout), columns)
    if import_run.as_of is None:
        import_run.as_of = min(dates.newest or import_run.created_at, now)
    if import_run.cursor == 0 and not _begin(import_run):
        return False
    rules = _Rules(
        choices=choices,
        columns=columns,
        labels=layout.columns,
        as_of=import_run.as_of,
        targets=frozenset(Group.objects.tree_of(import_run.group).live().values_list("pk", flat=True)),
        own_addresses=own_addresses(import_run.group.creator),
        about_mail=columns_about_mail(layout.columns, choices.columns),
        day_first=dates.day_first,
    )
    leaving = _who_leaves(import_run, read_rows(file, layout), rules, page)
    if leaving is None:
        return False
    rows = (row for row in read_rows(file, layout) if row.line > import_run.cursor)
    for batch in _batches(rows, page):
        if not _check_page(import_run, [_read(import_run, row, rules) for row in batch], leaving):
            return False
    return _finish(import_run)


def _begin(import_run: Import) -> bool:
    with transaction.atomic():
        if not keep_lease(import_run, seconds=LEASE_SECONDS):
            return False
        ImportRow.objects.filter(import_run=import_run).delete()
        import_run.save(update_fields=["as_of"])
    return True


def _who_leaves(
    import_run: Import, rows: Iterable[Row | BadRow], rules: _Rules, page: int
) -> Container[int] | None:
    """The contacts whose address is another one by this file as a whole. None once the lease is lost."""
    source, wanted = FORMATS[import_run.format].source, dict[int, str]()
    known = OutsideId.objects.filter(creator=import_run.group.creator_id, source=source)
    if not source or not known.exists():
        return wanted
    for batch in _batches(iter(rows), page):
        if not keep_lease(import_run, seconds=LEASE_SECONDS):
            return None
        listed = [_read(import_run, row, rules) for row in batch]
        new = {
            row.outside_id: row.address_key for row in reversed(listed) if row.outside_id and not row.verdict
        }
        theirs = known.filter(among("value", new)).values_list("value", "contact", "contact__address_key")
        found = {value: contact for value, contact, address in theirs if address != new[value]}
        # In the order of the file: of two who want one address the first gets it.
        for row in listed:
            if row.outside_id in found and not row.verdict:
                wanted.setdefault(found[row.outside_id], new[row.outside_id])
    return possible_moves(import_run.group.creator_id, wanted)


def _check_page(import_run: Import, rows: list[ImportRow], leaving: Container[int]) -> bool:
    with transaction.atomic():
        if not keep_lease(import_run, seconds=LEASE_SECONDS):
            return False
        judge_rows(import_run, rows, leaving=leaving)
        ImportRow.objects.bulk_create(rows)
        _heed_doubles(import_run, rows)
        import_run.cursor = rows[-1].line
        import_run.save(update_fields=["cursor"])
    return True


def _heed_doubles(import_run: Import, rows: list[ImportRow]) -> None:
    """Who is listed twice and wants no mail by either row wants none."""
    doubles = [row for row in rows if row.verdict == Verdict.DUPLICATE and row.wants_mail is False]
    if not doubles:
        return
    same = Q(address_key__in=[row.address_key for row in doubles])
    same |= Q(outside_id__in=[row.outside_id for row in doubles if row.outside_id])
    ImportRow.objects.filter(same, import_run=import_run).accepted().update(wants_mail=False)


def _finish(import_run: Import) -> bool:
    name_rows(import_run)
    counts = count_rows(import_run)
    with transaction.atomic():
        if not keep_lease(import_run, seconds=LEASE_SECONDS):
            return False
        import_run.counts, import_run.state = counts, Import.State.CHECKED
        import_run.save(update_fields=["counts", "state"])
        end_lease(import_run)
    renew_statistics(ImportRow, rows=sum(counts["verdicts"].values()))
    return True


def count_rows(import_run: Import) -> dict[str, Any]:
    """The verdicts in numbers, as `Summary` reads them."""
    rows = ImportRow.objects.filter(import_run=import_run)
    coming = rows.filter(verdict__in=[Verdict.NEW, Verdict.MOVED, Verdict.RETURNED])
    flagged = rows.accepted().exclude(flag="")
    return {
        "verdicts": _tally(rows, "verdict"),
        "flags": _tally(flagged, "flag"),
        "skipped": _tally(rows.filter(verdict=Verdict.SKIPPED), "reason"),
        "unmapped": _tally(rows.filter(verdict=Verdict.UNMAPPED), "tier"),
        "joining": _tally(coming, "target"),
        "gone": gone_memberships(import_run).count(),
        "unread": unread_rows(import_run).count(),
        "opted_out": rows.accepted().filter(wants_mail=False).count(),
        "members": live_memberships(import_run).count(),
    }


def _tally(rows: Any, column: str) -> dict[str, int]:
    return {str(value): people for value, people in rows.values_list(column).annotate(Count("pk")).order_by()}


def _read(import_run: Import, row: Row | BadRow, rules: _Rules) -> ImportRow:
    """The row as it will stand in the dry run; with a verdict already if nobody has to be looked up for it."""
    if isinstance(row, BadRow):
        return _with_problem(ImportRow(import_run=import_run, line=row.line), row)
    person = read_person(row, rules.columns, rules.labels, day_first=rules.day_first)
    read = ImportRow(
        import_run=import_run,
        line=row.line,
        address_key=person.address_key,
        name=person.name,
        outside_id=person.outside_id,
        tier=person.tier,
        wants_mail=wants_mail(row.cells, rules.about_mail),
        started_at=person.since,
        # An expiry in the future is a planned end; one in the past says nothing that the status does not.
        ended_at=person.until if person.until and person.until > rules.as_of else None,
        flag=hint_of(person.address_key) or (ImportRow.Flag.CLEANED if person.name_cleaned else ""),
    )
    if person.end_unread:
        # It may be what keeps them: the status alone decides nothing then.
        _with_problem(read, person.end_unread)
    elif not read.ended_at and not _is_member(person, rules):
        read.verdict, read.reason = Verdict.SKIPPED, person.status
    elif person.problem:
        _with_problem(read, person.problem)
    elif person.address_key in rules.own_addresses:
        own = _("This is the address you or we send from; mail to it would go round in circles.")
        _with_problem(read, BadRow(row.line, rules.choices.columns[Field.ADDRESS], own, person.address_key))
    else:
        tiers = rules.choices.tiers
        target = tiers.get(plain(person.tier)) if Field.TIER in rules.columns else rules.choices.target
        if target in rules.targets:
            read.target_id = target
        else:
            read.verdict = Verdict.UNMAPPED
    return read


def _is_member(person: Person, rules: _Rules) -> bool:
    return Field.STATUS not in rules.columns or plain(person.status) in rules.choices.statuses


def _with_problem(row: ImportRow, problem: BadRow) -> ImportRow:
    row.verdict, row.column = Verdict.BAD, problem.column
    row.reason, row.value = problem.reason[:300], problem.value
    return row


def _refuse(import_run: Import, reason: str) -> None:
    Import.objects.filter(pk=import_run.pk, epoch=import_run.epoch).update(
        state=Import.State.REFUSED, reason=reason, lease_until=None
    )


def give_up_import(import_run: Import) -> bool:
    """An import whose work keeps going wrong is refused and says how far it is. What it applied stays applied.

    Returns whether this call did that; twice, or when it was brought on meanwhile: False, nothing changes.
    """
    if import_run.state == Import.State.APPLYING:
        reason = _(
            "Something on our side went wrong each time. The file is applied up to line %(line)d, and that stays. Import it "
            "again to go on: what is done is not done twice."
        ) % {"line": import_run.cursor}
    else:
        reason = _(
            "Something on our side went wrong each time this file was checked. Nothing was changed. Upload it again."
        )
    underway = Import.objects.underway().filter(pk=import_run.pk, epoch=import_run.epoch)
    refused = {"state": Import.State.REFUSED, "reason": reason, "lease_until": None}
    return bool(underway.update(**refused, epoch=F("epoch") + 1))


def _batches(rows: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while batch := list(islice(rows, size)):
        yield batch

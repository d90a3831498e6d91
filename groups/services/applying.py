"""Applying an import: a worker makes true, page by page, what the dry run said."""

from datetime import datetime

from django.db import transaction
from django.db.models import F, OuterRef, Subquery, Value
from django.db.models.functions import Greatest

from groups.imports.formats import FORMATS
from groups.models import Contact, Group, Import, ImportRow, Membership, OutsideId
from groups.services.checking import LEASE_SECONDS, PAGE, count_rows
from groups.services.contacts import attach_verified_accounts
from groups.services.judging import Judged, gone_memberships, judge_rows, name_rows
from groups.services.memberships import INSTANT, lock_tree, raise_rosters
from groups.services.readdressing import pass_on_addresses
from rows.lease import end_lease, keep_lease, take_lease
from rows.statistics import renew_statistics

Verdict = ImportRow.Verdict


def apply_import(import_id: int, *, now: datetime, page: int = PAGE) -> bool:
    """The people of this import are contacts and members as its rows say. Returns whether it is done.

    Each page is judged again against the database as it is, written, and committed with the cursor and under the
    lease's epoch: a killed worker's successor goes on where it was and comes to the same end.
    Twice, or while another worker holds it: nothing happens.
    """
    import_run = (
        Import.objects.filter(pk=import_id, state=Import.State.APPLYING).select_related("group").first()
    )
    if import_run is None or take_lease(import_run, seconds=LEASE_SECONDS) is None:
        return False
    if not pass_on_addresses(import_run, seconds=LEASE_SECONDS):
        return False
    while rows := _next_page(import_run, page):
        if not _apply_page(import_run, rows, now):
            return False
    return _finish(import_run, now)


def _next_page(import_run: Import, page: int) -> list[ImportRow]:
    rows = ImportRow.objects.filter(import_run=import_run, line__gt=import_run.cursor).accepted()
    return list(rows.order_by("line")[:page])


def _apply_page(import_run: Import, rows: list[ImportRow], now: datetime) -> bool:
    with transaction.atomic():
        if not keep_lease(import_run, seconds=LEASE_SECONDS):
            return False
        lock_tree(import_run.group)
        before = {row.pk: _said(row) for row in rows}
        tree = Group.objects.tree_of(import_run.group).in_bulk()
        for row in rows:
            if row.target_id is None or tree[row.target_id].archived_at:  # since the dry run
                row.verdict = Verdict.UNMAPPED
        judged = [found for found in judge_rows(import_run, rows) if found.row.verdict in ImportRow.ACCEPTED]
        _write_contacts(import_run, judged, now)
        _write_wishes(judged, now)
        _write_memberships(import_run, judged, tree, now)
        # The database may have moved on since the dry run: the rows say what really happened.
        moved = [row for row in rows if before[row.pk] != _said(row)]
        ImportRow.objects.bulk_update(moved, ["verdict", "flag", "former_address", "contact"], batch_size=100)
        import_run.cursor = rows[-1].line
        import_run.save(update_fields=["cursor"])
    return True


def _said(row: ImportRow) -> tuple[object, ...]:
    return row.verdict, row.flag, row.former_address, row.contact_id


def _write_contacts(import_run: Import, judged: list[Judged], now: datetime) -> None:
    """Every judged row has its contact afterwards, named, addressed and known by its outside id as the row says."""
    for found in judged:
        # To addresses that nobody has: what is passed on within the file was before the first page.
        if found.contact and (found.new_name or found.new_address):
            found.contact.name = found.row.name if found.new_name else found.contact.name
            found.contact.address_key = (
                found.row.address_key if found.new_address else found.contact.address_key
            )
            found.contact.save(update_fields=["name", "address_key"])
    readdressed = [found.row.contact_id for found in judged if found.new_address]
    created = _create_contacts(import_run, [found for found in judged if found.contact is None], now)
    OutsideId.objects.bulk_create(
        [
            OutsideId(
                creator_id=import_run.group.creator_id,
                contact=found.contact,
                source=FORMATS[import_run.format].source,
                value=found.row.outside_id,
            )
            for found in judged
            if found.new_outside_id
        ],
        ignore_conflicts=True,
    )
    attach_verified_accounts(Contact.objects.filter(pk__in=[*readdressed, *created]))


def _write_wishes(judged: list[Judged], now: datetime) -> None:
    """Before anybody can be given anything by this page: who wants no mail by the file is marked, and others are not.

    What people chose themselves stands elsewhere and outranks it.
    """
    for wish, opted_out_at in ((False, now), (True, None)):
        changed = [found.contact for found in judged if found.new_wish and found.row.wants_mail is wish]
        if changed:
            ids = [contact.pk for contact in changed if contact]
            Contact.objects.filter(pk__in=ids).update(opted_out_at=opted_out_at)


def _mark_others(import_run: Import, now: datetime) -> None:
    """Whoever the file lists as wanting no mail gets none, also who is a member by another group or was listed twice."""
    listed = ImportRow.objects.filter(import_run=import_run, wants_mail=False, contact__isnull=False)
    Contact.objects.filter(pk__in=listed.values("contact"), opted_out_at=None).update(opted_out_at=now)


def _create_contacts(import_run: Import, judged: list[Judged], now: datetime) -> list[int]:
    """Contacts for those who have none, in two statements and one for their rows; returns their ids."""
    if not judged:
        return []
    creator_id, rows = import_run.group.creator_id, [found.row for found in judged]
    Contact.objects.bulk_create(
        [
            Contact(creator_id=creator_id, address_key=row.address_key, name=row.name, created_at=now)
            for row in rows
        ],
        ignore_conflicts=True,  # somebody may be adding the same person to another group by hand
    )
    own = Contact.objects.filter(creator=creator_id)
    created = {
        found.address_key: found for found in own.filter(address_key__in=[row.address_key for row in rows])
    }
    for found in judged:
        found.contact = created[found.row.address_key]
    page = ImportRow.objects.filter(
        import_run=import_run, contact=None, line__gte=rows[0].line, line__lte=rows[-1].line
    )
    theirs = own.filter(address_key=OuterRef("address_key")).values("pk")[:1]
    page.accepted().update(contact_id=Subquery(theirs))
    return [contact.pk for contact in created.values()]


def _write_memberships(
    import_run: Import, judged: list[Judged], tree: dict[int, Group], now: datetime
) -> None:
    as_of = import_run.as_of or import_run.created_at
    beginning: list[Membership] = []
    changing: list[Membership] = []
    for found in judged:
        row, stays = found.row, found.stays
        if stays is None:
            starts = [as_of, *(left.started_at + INSTANT for left in found.leaves)]
            if row.verdict == Verdict.NEW and row.started_at:
                starts = [min(row.started_at, as_of)]
            begins_at = max(starts)
            for left in found.leaves:
                left.ended_at = max(as_of, left.started_at + INSTANT)
            changing += found.leaves
            beginning.append(
                Membership(
                    group_id=row.target_id,  # type: ignore[misc]
                    contact=found.contact,
                    started_at=begins_at,
                    ended_at=row.ended_at and max(row.ended_at, begins_at + INSTANT),
                    recorded_at=now,
                    brought_by=import_run,
                )
            )
        elif found.new_end or (stays.brought_by_id is None and stays.group_id == row.target_id):
            # Who was put there by hand and is listed now is the list's from here on, and can be gone from it.
            stays.ended_at = row.ended_at if found.new_end else stays.ended_at
            stays.brought_by = stays.brought_by or import_run
            changing.append(stays)
    if beginning or changing:
        Membership.objects.bulk_update(changing, ["ended_at", "brought_by"], batch_size=100)
        Membership.objects.bulk_create(beginning)
        touched = {membership.group_id for membership in (*beginning, *changing)}
        raise_rosters(tree[group_id] for group_id in touched)


def _finish(import_run: Import, now: datetime) -> bool:
    counts = count_rows(import_run)
    with transaction.atomic():
        if not keep_lease(import_run, seconds=LEASE_SECONDS):
            return False
        lock_tree(import_run.group)
        name_rows(import_run)
        _mark_others(import_run, now)
        counts["ended"] = _end_gone(import_run, import_run.gone_at) if import_run.gone_at else 0
        # What was gone and who belonged before are the dry run's to say: now the gone have ended.
        import_run.counts = {
            **counts,
            "gone": import_run.counts["gone"],
            "members": import_run.counts["members"],
        }
        import_run.state, import_run.done_at = Import.State.DONE, now
        import_run.save(update_fields=["counts", "state", "done_at"])
        end_lease(import_run)
    renew_statistics(Contact, Membership, OutsideId, rows=sum(counts["verdicts"].values()))
    return True


def _end_gone(import_run: Import, gone_at: datetime) -> int:
    gone = gone_memberships(import_run).unended(gone_at)  # type: ignore[attr-defined]
    groups = list(Group.objects.filter(pk__in=gone.values("group")))
    ended = Membership.objects.filter(pk__in=gone.values("pk")).update(
        ended_at=Greatest(Value(gone_at), F("started_at") + INSTANT)
    )
    raise_rosters(groups)
    return ended

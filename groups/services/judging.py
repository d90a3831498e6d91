"""What a row of an import comes to. The dry run and the import itself ask the same functions."""

from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Exists, F, OuterRef, QuerySet, Subquery

from accounts.models import Suppression
from groups.imports.formats import FORMATS
from groups.models import Contact, Import, ImportRow, Membership, OutsideId

Verdict = ImportRow.Verdict


@dataclass(slots=True)
class Judged:
    """A row with its verdict, and what has to be written to make it true."""

    row: ImportRow
    contact: Contact | None = None
    stays: Membership | None = None
    leaves: list[Membership] = field(default_factory=list)
    new_name: bool = False
    new_address: bool = False
    new_outside_id: bool = False
    new_end: bool = False
    new_wish: bool = False


@dataclass(slots=True)
class _Known:
    """What the database knows of the people on one page of rows."""

    by_outside_id: dict[str, Contact]
    by_address: dict[str, Contact]
    memberships: dict[int, list[Membership]]
    suppressed: set[str]
    listed: set[str | int]  # outside ids, addresses and contacts that an earlier row has claimed


def live_memberships(import_run: Import) -> QuerySet[Membership]:
    """Those who belong to the tree at the instant the file speaks of."""
    as_of = _as_of(import_run)
    return Membership.objects.live(as_of).in_tree(import_run.group)


def gone_memberships(import_run: Import) -> QuerySet[Membership]:
    """Live memberships that files like this one brought, of people whom this one does not list as members.

    Who was added by hand is never gone. Nor is anybody whose row is there but cannot be used, or has a tier nobody
    mapped: the file does list them.
    """
    source = FORMATS[import_run.format].source
    listed = ImportRow.objects.filter(import_run=import_run, contact=OuterRef("contact")).exclude(
        verdict=Verdict.SKIPPED
    )
    outside_ids = OutsideId.objects.filter(contact=OuterRef("contact"))
    of_this_kind = Exists(outside_ids.filter(source=source)) if source else ~Exists(outside_ids)
    return live_memberships(import_run).filter(of_this_kind, ~Exists(listed), brought_by__isnull=False)


def name_rows(import_run: Import) -> None:
    """Every row says which contact it names, also one that appeared since the row was judged. Twice: nothing changes.

    Two statements, however many rows.
    """
    unnamed = ImportRow.objects.filter(import_run=import_run, contact=None)
    creator_id, source = import_run.group.creator_id, FORMATS[import_run.format].source
    by_id = OutsideId.objects.filter(creator=creator_id, source=source, value=OuterRef("outside_id"))
    by_address = Contact.objects.filter(creator=creator_id, address_key=OuterRef("address_key"))
    named = unnamed.exclude(outside_id="").filter(Exists(by_id))
    named.update(contact_id=Subquery(by_id.values("contact")[:1]))
    # What somebody leaves by this file is not theirs any more, whoever has it now.
    moving = ImportRow.objects.filter(import_run=import_run).exclude(former_address="")
    addressed = unnamed.exclude(address_key="").filter(Exists(by_address))
    addressed = addressed.exclude(address_key__in=moving.values("former_address"))
    addressed.update(contact_id=Subquery(by_address.values("pk")[:1]))


def unread_rows(import_run: Import) -> QuerySet[ImportRow]:
    """Rows of which nobody can tell whom they name: their people may be among those who are not listed."""
    return ImportRow.objects.filter(import_run=import_run, verdict=Verdict.BAD, outside_id="", address_key="")


def judge_rows(
    import_run: Import, rows: list[ImportRow], *, leaving: Container[int] = frozenset()
) -> list[Judged]:
    """Give each row its verdict against the database as it is now; rows come in the order of the file.

    A row that has a verdict already (bad, skipped, unmapped) keeps it and learns only whom it names. `leaving` are
    the contacts who leave their address by another row of the file: it is whoever's row has it.
    """
    known = _load(import_run, rows, leaving)
    return [_judge(import_run, row, known) for row in rows]


def _judge(import_run: Import, row: ImportRow, known: _Known) -> Judged:
    by_id = known.by_outside_id.get(row.outside_id)
    contact = row.contact = by_id or known.by_address.get(row.address_key)
    judged = Judged(row, contact)
    if row.verdict and row.verdict not in ImportRow.ACCEPTED:
        return judged
    claims: set[str | int] = {row.outside_id} if row.outside_id else set()
    if contact:
        claims.add(contact.pk)
    if not by_id:
        claims.add(row.address_key)
    if claims & known.listed:
        row.verdict = Verdict.DUPLICATE
        return judged
    judged.new_outside_id = bool(row.outside_id) and by_id is None
    judged.new_wish = row.wants_mail is (contact is not None and contact.opted_out_at is not None)
    if row.address_key in known.suppressed:
        row.flag = ImportRow.Flag.SUPPRESSED
    if contact is None:
        row.verdict = Verdict.NEW
    else:
        _compare_identity(import_run, judged, contact, known)
        _compare_memberships(import_run, judged, known.memberships.get(contact.pk, []))
    if row.flag != ImportRow.Flag.TAKEN:
        claims.add(row.address_key)
    known.listed |= claims
    return judged


def _compare_identity(import_run: Import, judged: Judged, contact: Contact, known: _Known) -> None:
    row = judged.row
    source = FORMATS[import_run.format].source
    # Without ids a list only knows addresses: it fills in a name that is missing and corrects none.
    judged.new_name = bool(row.name) and row.name != contact.name and bool(source or not contact.name)
    if row.address_key == contact.address_key:
        return
    if row.address_key in known.by_address or row.address_key in known.listed:
        row.flag, row.former_address = ImportRow.Flag.TAKEN, ""
        return
    judged.new_address = True
    row.former_address = contact.address_key


def _compare_memberships(import_run: Import, judged: Judged, memberships: list[Membership]) -> None:
    row, as_of = judged.row, _as_of(import_run)
    current = [held for held in memberships if held.ended_at is None or held.ended_at > as_of]
    judged.stays = next((held for held in current if _stays(import_run, row, held)), None)
    if judged.stays is None:
        judged.leaves = current
        row.verdict = Verdict.MOVED if current else Verdict.RETURNED if memberships else Verdict.NEW
        return
    stays = judged.stays
    judged.new_end = (
        stays.group_id == row.target_id
        and stays.ended_at != row.ended_at
        and (row.ended_at is None or row.ended_at > stays.started_at)
    )
    # Or the address was passed on already, before this page's turn.
    changed = (
        judged.new_name or row.former_address or judged.new_outside_id or judged.new_end or judged.new_wish
    )
    row.verdict = Verdict.CHANGED if changed else Verdict.UNCHANGED


def _stays(import_run: Import, row: ImportRow, held: Membership) -> bool:
    """In the tier's group already, or put by hand into the main group, which receives everything anyway."""
    by_hand_above = held.group_id == import_run.group_id and held.brought_by_id is None
    return held.group_id == row.target_id or by_hand_above


def _load(import_run: Import, rows: list[ImportRow], leaving: Container[int]) -> _Known:
    creator_id, source = import_run.group.creator_id, FORMATS[import_run.format].source
    outside_ids = [row.outside_id for row in rows if row.outside_id]
    addresses = [row.address_key for row in rows if row.address_key]
    found = OutsideId.objects.filter(creator=creator_id, source=source, value__in=outside_ids)
    by_outside_id = {known.value: known.contact for known in found.select_related("contact")}
    holders = Contact.objects.filter(creator=creator_id, address_key__in=addresses)
    by_address = {contact.address_key: contact for contact in holders if contact.pk not in leaving}
    ids = {contact.pk for contact in (*by_outside_id.values(), *by_address.values())}
    memberships: dict[int, list[Membership]] = {}
    held = Membership.objects.in_tree(import_run.group).filter(contact__in=ids)
    for membership in held.order_by(F("ended_at").desc(nulls_first=True), "-started_at"):
        memberships.setdefault(membership.contact_id, []).append(membership)
    earlier = ImportRow.objects.filter(import_run=import_run, line__lt=rows[0].line).accepted()
    # Only what this creator's own mail brought about: what became of somebody else's is not theirs to know.
    suppressed = Suppression.objects.live().filter(address_key__in=addresses, creator_id=creator_id)
    return _Known(
        by_outside_id,
        by_address,
        memberships,
        suppressed=set(suppressed.values_list("address_key", flat=True)),
        listed={
            *earlier.filter(outside_id__in=outside_ids).values_list("outside_id", flat=True),
            *earlier.filter(address_key__in=addresses)
            .exclude(flag=ImportRow.Flag.TAKEN)
            .values_list("address_key", flat=True),
            *earlier.filter(contact__in=ids).values_list("contact_id", flat=True),
        },
    )


def _as_of(import_run: Import) -> datetime:
    return import_run.as_of or import_run.created_at

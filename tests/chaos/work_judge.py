"""What is true of a run of work, by plain SQL and the bytes on the disk. It imports nothing of the application."""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.judge import Rows
from tests.chaos.lists import first_list, second_list


@dataclass
class Brought:
    """A list that was imported in the run, and who was added by hand beside it."""

    number: int
    members: int
    group: int
    run: int
    release: int
    by_hand: list[str] = field(default_factory=list)


@dataclass
class WorkLedger:
    """What was done to the run from outside: the rig writes it down, the judge compares."""

    stays: int
    recalled: list[int] = field(default_factory=list)
    brought: list[Brought] = field(default_factory=list)
    # Bundle → path → SHA-256 of what was uploaded whole and is no program.
    files: dict[int, dict[str, str]] = field(default_factory=dict)


@dataclass
class WorkFigures:
    """All of them are 0 in a run that holds, but for the first four."""

    recalled: int = 0
    listed: int = 0
    joiners: int = 0
    files: int = 0
    # Live holdings of what was taken back; recalls that are not over.
    kept_after_recall: int = 0
    unfinished: int = 0
    # Accounts that do not hold what they were given and nobody took back.
    lost_holdings: int = 0
    # Listed and not (or twice) a member, or under another address; gone and still a member; ended without reason.
    wrong_members: int = 0
    wrong_counts: int = 0
    joiners_without_grant: int = 0
    strange_grants: int = 0
    # Whole, and not there as they were sent; there, and not to be.
    lost_files: int = 0
    strange_files: int = 0
    # Folders and files of the store that nobody names; uploads that are remembered.
    bytes_left: int = 0
    uploads_left: int = 0
    left: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.why

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}

    def note(self, name: str, what: str, number: int = 1) -> None:
        if number:
            setattr(self, name, getattr(self, name) + number)
            self.why.append(f"{name}: {what}")


def judge_work(rows: Rows, media: Path, ledger: WorkLedger) -> WorkFigures:
    """The figures of a run that has settled. `media`: the folder of the product's files."""
    found = WorkFigures()
    for release in ledger.recalled:
        _recalled(rows, release, found)
    _held(rows, ledger.stays, found)
    for brought in ledger.brought:
        _listed(rows, brought, found)
        _counts(rows, brought, found)
        _joiners(rows, brought, found)
        _held(rows, brought.release, found)
    for bundle, files in ledger.files.items():
        _files(rows, media, bundle, files, found)
    _bytes(rows, media, found)
    return found


def _recalled(rows: Rows, release: int, found: WorkFigures) -> None:
    [(state,)] = rows("SELECT state FROM distribution_release WHERE id = %s", release)
    [(all_of_it, live)] = rows(
        "SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL) FROM library_holding WHERE origin_key = %s",
        f"release:{release}",
    )
    found.recalled += all_of_it
    found.note("unfinished", f"release {release} is {state}", state != "recalled")
    found.note("kept_after_recall", f"{live} of {all_of_it} libraries keep release {release}", live)


def _held(rows: Rows, release: int, found: WorkFigures) -> None:
    """Every account known behind a grant holds it."""
    [(lost,)] = rows(
        """SELECT count(*) FROM (
            SELECT DISTINCT contact.account_id FROM distribution_grant given
            JOIN groups_contact contact ON contact.id = given.contact_id
            WHERE given.release_id = %s AND contact.account_id IS NOT NULL
            EXCEPT SELECT entry.user_id FROM library_holding held
            JOIN library_libraryentry entry ON entry.id = held.entry_id
            WHERE held.origin_key = %s AND held.ended_at IS NULL
        ) without""",
        release,
        f"release:{release}",
    )
    found.note("lost_holdings", f"{lost} accounts do not hold release {release}", lost)


def _listed(rows: Rows, brought: Brought, found: WorkFigures) -> None:
    listed = {one.outside_id: one for one in second_list(brought.number, brought.members)}
    found.listed += len(listed)
    people = {
        value: (address, name, live, ever)
        for value, address, name, live, ever in rows(
            """SELECT outside.value, contact.address_key, contact.name,
                count(member.id) FILTER (WHERE member.ended_at IS NULL), count(member.id)
            FROM groups_outsideid outside JOIN groups_contact contact ON contact.id = outside.contact_id
            LEFT JOIN groups_membership member ON member.contact_id = contact.id AND member.group_id = %s
            WHERE outside.value LIKE %s GROUP BY outside.value, contact.address_key, contact.name""",
            brought.group,
            f"U{brought.number}-%",
        )
    }
    for one in listed.values():
        if people.get(one.outside_id) != (one.address, one.name, 1, 1):
            found.note("wrong_members", f"{one} is {people.get(one.outside_id)}")
    for one in first_list(brought.number, brought.members):
        if one.outside_id not in listed and people.get(one.outside_id, ("", "", 0, 1))[2:] != (0, 1):
            found.note("wrong_members", f"{one} is not listed, and is {people[one.outside_id]}")
    by_hand = rows(
        """SELECT contact.address_key FROM groups_contact contact
        JOIN groups_membership member ON member.contact_id = contact.id
        WHERE member.group_id = %s AND member.ended_at IS NULL AND contact.address_key = ANY(%s)""",
        brought.group,
        brought.by_hand,
    )
    lost = Counter(brought.by_hand) - Counter(address for (address,) in by_hand)
    found.note("wrong_members", f"added by hand, and not there: {list(lost)[:3]}", lost.total())


def _counts(rows: Rows, brought: Brought, found: WorkFigures) -> None:
    """The page of the import says what happened."""
    [(state, counts)] = rows("SELECT state, counts FROM groups_import WHERE id = %s", brought.run)
    found.note("unfinished", f"import {brought.run} is {state}", state != "done")
    first = {one.outside_id: one for one in first_list(brought.number, brought.members)}
    second = second_list(brought.number, brought.members)
    known = [one for one in second if one.outside_id in first]
    new, changed = len(second) - len(known), sum(one != first[one.outside_id] for one in known)
    # Who was added by hand before their row's turn is not new to it, and perhaps had no name.
    slack = len(brought.by_hand)
    verdicts = counts.get("verdicts", {})
    right = (
        new - slack <= verdicts.get("new", 0) <= new
        and changed <= verdicts.get("changed", 0) <= changed + slack
        and sum(verdicts.get(verdict, 0) for verdict in ("new", "changed", "unchanged")) == len(second)
        and counts.get("ended") == len(first) - len(known)
    )
    said = f"import {brought.run} says {counts}, not {new} new, {changed} changed, {len(first) - len(known)} ended"
    found.note("wrong_counts", said, not right)


def _joiners(rows: Rows, brought: Brought, found: WorkFigures) -> None:
    """Whoever belongs has a grant, whenever they came; nobody else has one."""
    [(joined, without)] = rows(
        """SELECT count(*) FILTER (WHERE member.started_at > release.as_of OR member.recorded_at > release.as_of),
            count(*) FILTER (WHERE given.id IS NULL)
        FROM groups_membership member JOIN distribution_release release ON release.id = %s
        LEFT JOIN distribution_grant given
            ON given.contact_id = member.contact_id AND given.release_id = release.id
        WHERE member.group_id = %s AND member.ended_at IS NULL""",
        brought.release,
        brought.group,
    )
    found.joiners += joined
    found.note("joiners_without_grant", f"{without} members were not given {brought.release}", without)
    [(strange,)] = rows(
        """SELECT count(*) FROM distribution_grant given WHERE release_id = %s AND NOT EXISTS (
            SELECT FROM groups_membership member
            WHERE member.contact_id = given.contact_id AND member.group_id = %s)""",
        brought.release,
        brought.group,
    )
    found.note("strange_grants", f"{strange} strangers were given {brought.release}", strange)


def _files(rows: Rows, media: Path, bundle: int, files: dict[str, str], found: WorkFigures) -> None:
    """Each is there as it was sent, in the bundle and on the disk; nothing else is."""
    found.files += len(files)
    there = {
        path: (sha256, key)
        for path, sha256, key in rows(
            """SELECT file.path, blob.sha256, blob.storage_key FROM library_file file
            JOIN library_bundleversion version ON version.id = file.version_id
            JOIN library_blob blob ON blob.id = file.blob_id
            WHERE version.bundle_id = %s""",
            bundle,
        )
    }
    for path, sha256 in files.items():
        said, key = there.pop(path, ("", ""))
        on_disk = media / "blobs" / key[:2] / key
        whole = bool(key) and on_disk.is_file() and hashlib.sha256(on_disk.read_bytes()).hexdigest() == sha256
        found.note("lost_files", f"{path} is called {said!r}, not {sha256}", not (whole and said == sha256))
    found.note("strange_files", f"there, though no file of ours: {sorted(there)}", len(there))


def _bytes(rows: Rows, media: Path, found: WorkFigures) -> None:
    """No bytes that nobody names, no upload that is remembered."""
    named = {key for (key,) in rows("SELECT storage_key FROM library_blob")}
    left = [path for path in (media / "blobs").rglob("*") if path.is_file() and path.name not in named]
    left += (media / "uploads").glob("*")
    found.left = sorted(path.name for path in left)
    found.note("bytes_left", f"nobody names {found.left[:3]}", len(left))
    [(remembered,)] = rows("SELECT count(*) FROM library_upload")
    found.note("uploads_left", f"{remembered} uploads are not forgotten", remembered)


def left_by_no_sweep(rows: Rows, found: WorkFigures) -> bool:
    """Whether the judge found just what stays where nothing sweeps: what was never completed, and the copy of which a
    worker died before it could tidy it away. Nothing else is wrong.
    """
    halves = [name for (name,) in rows("SELECT storage_upload_id FROM library_upload WHERE state = 'open'")]
    copies = [
        key
        for (key,) in rows(
            """SELECT storage_key FROM library_upload WHERE state = 'done'
            AND storage_key NOT IN (SELECT storage_key FROM library_blob)"""
        )
    ]
    wrong = {why.partition(":")[0] for why in found.why}
    return (
        (len(halves), len(copies)) == (1, 1)
        and found.left == sorted([*halves, *copies])
        and wrong == {"bytes_left", "uploads_left"}
    )

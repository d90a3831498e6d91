"""Who is listed is never taken for gone: contacts that appear late, rows that cannot be read, dates in other hands."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from accounts.models import User
from groups.models import Contact, Creator, Group, Import, ImportRow, Membership
from groups.services import add_contact, applying, checking, start_membership, summarise
from groups.services.imports import WordMissing
from tests import samples
from tests.factories import GroupFactory
from tests.groups.flow import applied, checked

pytestmark = pytest.mark.usefixtures("hobbyist", "collector", "merchant")
PATRONS = [replace(samples.patron(number), tier="Hobbyist") for number in range(8)]


def october(people: Sequence[samples.Patron] = PATRONS) -> bytes:
    return samples.patreon_export(people, samples.OCTOBER)


def november(people: Sequence[samples.Patron] = PATRONS) -> bytes:
    return samples.patreon_export(people, samples.NOVEMBER)


def live(group: Group, now: datetime) -> set[str]:
    held = Membership.objects.live(now).in_tree(group)
    return set(held.values_list("contact__address_key", flat=True))


def ends(group: Group) -> dict[str, datetime | None]:
    held = Membership.objects.in_tree(group)
    return dict(held.values_list("contact__address_key", "ended_at"))


@pytest.fixture
def tribers(creator: Creator) -> Group:
    tribers = GroupFactory.create(creator=creator, name="Tribers")
    GroupFactory.create(creator=creator, parent=tribers, name="Hobbyist")
    return tribers


@pytest.mark.parametrize("shared", [[0], [7], [0, 3, 7], list(range(8))])
def test_an_import_ends_none_of_those_it_brings_itself(
    patrons: Group, tribers: Group, owner: User, now: datetime, shared: list[int]
) -> None:
    """Between its dry run and its end another list makes contacts of some of the same people."""
    run = checked(patrons, october(), by=owner, now=now)
    applied(checked(tribers, october([PATRONS[n] for n in shared]), by=owner, now=now), by=owner, now=now)
    done = applied(run, by=owner, now=now, gone_at=now, page=3)
    assert summarise(done).ended == 0
    assert live(patrons, now) == {one.email for one in PATRONS}
    rows = ImportRow.objects.filter(import_run=run)
    assert not rows.filter(contact=None).exists(), "every row says whom it names"


def test_who_is_listed_in_a_row_of_no_use_is_listed_though_their_contact_came_later(
    patrons: Group, owner: User, now: datetime
) -> None:
    """Of the same main group: the one list was checked before the other brought somebody it lists, too."""
    odd = [replace(PATRONS[0], tier="Nobody's tier"), replace(PATRONS[1], name="two\nlines"), *PATRONS[2:]]
    run = checked(patrons, october(odd), by=owner, now=now)
    applied(checked(patrons, october(), by=owner, now=now), by=owner, now=now)
    done = applied(run, by=owner, now=now, gone_at=now)
    assert summarise(done).ended == 0
    assert live(patrons, now) == {one.email for one in PATRONS}


@pytest.mark.parametrize("when", ["checked", "applied"])
@pytest.mark.parametrize(
    ("row", "meanwhile"),
    [
        # By an address without a number; by a number without an address.
        ({"email": "moved@example.org", "name": "two\nlines", "user_id": ""}, {"email": "moved@example.org"}),
        ({"email": "not an address", "user_id": "999"}, {"user_id": "999"}),
    ],
)
def test_a_row_of_no_use_names_whoever_gets_its_address_or_number_while_it_is_checked_or_applied(
    patrons: Group,
    tribers: Group,
    owner: User,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    row: dict[str, str],
    meanwhile: dict[str, str],
) -> None:
    applied(checked(patrons, october(), by=owner, now=now), by=owner, now=now)
    module = {"checked": checking, "applied": applying}[when]
    finish = module._finish

    def listed(*others: samples.Patron, user_id: str = PATRONS[0].user_id, **changes: str) -> bytes:
        people = [replace(PATRONS[0], **changes), *others]
        return november(people).replace(PATRONS[0].user_id.encode(), user_id.encode())

    def after_another_list(import_run: Import, *arguments: Any) -> bool:
        if import_run.group == patrons:
            applied(checked(tribers, listed(**meanwhile), by=owner, now=now), by=owner, now=now)
        return finish(import_run, *arguments)

    content = listed(*PATRONS[1:], **row)
    with monkeypatch.context() as coming:
        if when == "checked":
            coming.setattr(module, "_finish", after_another_list)
        run = checked(patrons, content, by=owner, now=now)
        assert summarise(run).gone == (0 if when == "checked" else 1)
        coming.setattr(module, "_finish", after_another_list)
        done = applied(run, by=owner, now=now, gone_at=now)
    assert summarise(done).ended == 0
    assert len(live(patrons, now)) == 8


def test_nobody_is_ended_while_a_row_could_not_be_read_unless_that_is_said_by_name(
    patrons: Group, owner: User, now: datetime
) -> None:
    applied(checked(patrons, october(), by=owner, now=now), by=owner, now=now)
    for broken in (
        # One line lost the quotation marks round a comma, another has a letter in another encoding.
        november(PATRONS[:-1]).replace(b"patron3@example.org", b"patron3@example.org,one,cell,too,many,,,"),
        november(PATRONS[:-1])
        .replace(b"Ana 3", b"Ana \xe4 3")
        .replace(PATRONS[0].name.encode(), "Köln".encode()),
        november(PATRONS[:-1])
        .replace(b"patron3@example.org", b'patr"on3@example.org')
        .replace(b"4100003", b"41\x0000003"),
    ):
        run = checked(patrons, broken, by=owner, now=now)
        summary = summarise(run)
        assert (summary.verdicts["bad"], summary.unread, summary.gone) == (1, 1, 2)
        assert summary.asks_for_word
        with pytest.raises(WordMissing, match="1 row could not be read"):
            applied(run, by=owner, now=now, gone_at=now)
        assert len(live(patrons, now)) == 8
    applied(run, by=owner, now=now, gone_at=now, typed=" patrons ")
    assert len(live(patrons, now)) == 6


def test_a_bad_row_that_names_its_person_holds_nobody_back(
    patrons: Group, owner: User, now: datetime
) -> None:
    applied(checked(patrons, october(), by=owner, now=now), by=owner, now=now)
    odd = [replace(PATRONS[0], email="not an address"), *PATRONS[1:-1]]
    run = checked(patrons, november(odd), by=owner, now=now)
    assert (summarise(run).unread, summarise(run).gone) == (0, 1)
    applied(run, by=owner, now=now, gone_at=now)
    assert live(patrons, now) == {one.email for one in PATRONS[:-1]}


END = datetime(2026, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "written", ["2026-12-31 00:00:00", "12/31/2026 0:00", "31.12.2026", "31/12/2026", "2026/12/31"]
)
def test_a_former_patron_stays_until_the_day_however_a_spreadsheet_wrote_it(
    patrons: Group, owner: User, now: datetime, written: str
) -> None:
    applied(checked(patrons, october(), by=owner, now=now), by=owner, now=now)
    leaving = [replace(PATRONS[0], status="Former patron", until=written), *PATRONS[1:]]
    run = checked(patrons, november(leaving), by=owner, now=now)
    assert summarise(run).gone == 0
    applied(run, by=owner, now=now, gone_at=now)
    assert ends(patrons)[PATRONS[0].email] == END


@pytest.mark.parametrize("status", ["Former patron", "Active patron"])
@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("next year", "This is not a date"),
        ("03/04/2027", "can be read as 3 April or as 4 March"),
        ("31.31.2026", "This is not a date"),
    ],
)
def test_an_end_that_cannot_be_read_is_a_bad_row_and_ends_nobody(
    patrons: Group, owner: User, now: datetime, written: str, reason: str, status: str
) -> None:
    applied(checked(patrons, october(), by=owner, now=now), by=owner, now=now)
    leaving = [replace(PATRONS[0], status=status, until=written), *PATRONS[1:]]
    run = checked(patrons, november(leaving), by=owner, now=now)
    [bad] = ImportRow.objects.filter(import_run=run, verdict="bad")
    assert (bad.line, bad.column, bad.value) == (2, "Access Expiration", written)
    assert reason in bad.reason
    assert summarise(run).gone == 0
    applied(run, by=owner, now=now, gone_at=now)
    assert PATRONS[0].email in live(patrons, now)


@pytest.mark.parametrize(
    ("settles", "end"),
    [("12/31/2026", datetime(2027, 3, 4, tzinfo=UTC)), ("31/12/2026", datetime(2027, 4, 3, tzinfo=UTC))],
)
def test_one_date_of_the_file_settles_which_way_all_of_them_are_written(
    patrons: Group, owner: User, now: datetime, settles: str, end: datetime
) -> None:
    """Also when it stands below, and behind the page that is read at a time."""
    people = [replace(PATRONS[0], until="03/04/2027 0:00"), *PATRONS[1:7], replace(PATRONS[7], until=settles)]
    applied(checked(patrons, november(people), by=owner, now=now, page=2), by=owner, now=now)
    assert ends(patrons)[PATRONS[0].email] == end


def test_a_file_written_both_ways_settles_nothing(patrons: Group, owner: User, now: datetime) -> None:
    people = [
        replace(PATRONS[0], until="03/04/2027"),
        replace(PATRONS[1], until="12/31/2026"),
        replace(PATRONS[2], until="31/12/2026"),
    ]
    run = checked(patrons, november(people), by=owner, now=now)
    [bad] = ImportRow.objects.filter(import_run=run, verdict="bad")
    assert bad.line == 2


def test_a_file_resaved_in_a_spreadsheet_speaks_of_the_same_instant(
    patrons: Group, owner: User, now: datetime
) -> None:
    whole = (
        november()
        .replace(b"2026-11-02 03:00:00", b"11/20/2026 3:00")
        .replace(b"2025-03-01 07:46:37.482913", b"3/1/2025 7:46")
    )
    run = applied(checked(patrons, whole, by=owner, now=now), by=owner, now=now)
    assert run.as_of == datetime(2026, 11, 20, 3, tzinfo=UTC)
    started = set(Membership.objects.values_list("started_at", flat=True))
    assert started == {datetime(2025, 3, 1, 7, 46, tzinfo=UTC)}


def test_who_was_added_by_hand_meanwhile_is_nobodys_gone(
    patrons: Group, hobbyist: Group, owner: User, now: datetime
) -> None:
    run = checked(patrons, october(PATRONS[1:]), by=owner, now=now)
    contact: Contact = add_contact(patrons.creator, "hand@example.org", "", now=now)
    start_membership(hobbyist, contact, now=now)
    applied(run, by=owner, now=now, gone_at=now)
    assert "hand@example.org" in live(patrons, now)

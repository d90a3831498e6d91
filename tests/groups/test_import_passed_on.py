"""Addresses that are passed on, swapped and chained within one file: one file, one outcome, in any order of its rows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import permutations

import pytest
from django.db import connection

from accounts.models import User
from groups.models import Contact, Group, Import, ImportRow, OutsideId
from groups.services import add_contact, apply_import, readdressing, request_apply, summarise
from rows.lease import take_lease
from tests import samples
from tests.groups.flow import applied, checked

pytestmark = pytest.mark.usefixtures("hobbyist", "collector", "merchant")
ANNA, BEN, CLEO, DAN = (
    samples.patron(number, name=name, email=f"{name.lower()}@example.org", tier="Hobbyist")
    for number, name in enumerate(("Anna", "Ben", "Cleo", "Dan"))
)
BEFORE = [ANNA, BEN, CLEO, DAN]
# Anna and Ben swap; Cleo takes over what Dan leaves for a new one.
AFTER = [
    replace(ANNA, email=BEN.email),
    replace(BEN, email=ANNA.email),
    replace(CLEO, email=DAN.email),
    replace(DAN, email="dan.new@example.org"),
]
WANTED = {"Anna": "ben@", "Ben": "anna@", "Cleo": "dan@", "Dan": "dan.new@"}


def file_of(people: Sequence[samples.Patron], month: datetime = samples.NOVEMBER) -> bytes:
    return samples.patreon_export(people, month)


@pytest.fixture
def known(patrons: Group, owner: User, now: datetime) -> dict[str, int]:
    """The four of October, by name."""
    applied(checked(patrons, file_of(BEFORE, samples.OCTOBER), by=owner, now=now), by=owner, now=now)
    return dict(Contact.objects.values_list("name", "pk"))


def addresses() -> dict[str, str]:
    found = Contact.objects.values_list("name", "address_key")
    return {name: address.partition("example.org")[0] for name, address in found}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_order_of_the_rows_comes_to_the_same_and_twice_changes_nothing(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], order: tuple[int, ...]
) -> None:
    people = [AFTER[n] for n in order]
    page = 1 + sum(order[:2]) % 4
    run = checked(patrons, file_of(people), by=owner, now=now, page=page)
    assert summarise(run).verdicts["changed"] == 4
    applied(run, by=owner, now=now, page=page)
    assert addresses() == WANTED
    assert dict(Contact.objects.values_list("name", "pk")) == known, "the same four people"
    assert summarise(run).verdicts["changed"] == 4, "the rows say what happened"
    again = checked(patrons, file_of(people), by=owner, now=now, page=page)
    assert summarise(again).changes == 0
    applied(again, by=owner, now=now)
    assert addresses() == WANTED


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_newcomer_takes_over_what_a_member_leaves_and_is_somebody_else(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], order: tuple[int, ...]
) -> None:
    eve = samples.patron(9, name="Eve", email=DAN.email, tier="Hobbyist")
    pair = [replace(DAN, email="dan.new@example.org"), eve]
    people = [ANNA, BEN, CLEO, *(pair[n] for n in order)]
    for page in (1, 2, 10):
        run = checked(patrons, file_of(people), by=owner, now=now, page=page)
    assert summarise(run).verdicts["new"] == 1
    applied(run, by=owner, now=now, page=1)
    assert addresses() == {"Anna": "anna@", "Ben": "ben@", "Cleo": "cleo@", "Dan": "dan.new@", "Eve": "dan@"}
    assert OutsideId.objects.get(value=DAN.user_id).contact_id == known["Dan"]
    assert OutsideId.objects.filter(contact__name="Eve").count() == 1


def test_who_comes_back_under_another_id_with_the_same_address_is_the_same_person(
    patrons: Group, owner: User, now: datetime, known: dict[str, int]
) -> None:
    again = samples.patron(9, name="Dan", email=DAN.email, tier="Hobbyist")
    applied(checked(patrons, file_of([ANNA, BEN, CLEO, again]), by=owner, now=now), by=owner, now=now)
    assert dict(Contact.objects.values_list("name", "pk")) == known


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_chain_that_ends_at_somebody_who_stays_moves_nobody(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], order: tuple[int, ...]
) -> None:
    people = [replace(ANNA, email=BEN.email), replace(BEN, email=CLEO.email), CLEO]
    run = checked(patrons, file_of([people[n] for n in order]), by=owner, now=now, page=1)
    assert ImportRow.objects.filter(import_run=run, flag="taken").count() == 2
    applied(run, by=owner, now=now, page=1)
    assert addresses() == {"Anna": "anna@", "Ben": "ben@", "Cleo": "cleo@", "Dan": "dan@"}


def test_who_leaves_for_a_row_of_no_use_does_not_leave(
    patrons: Group, owner: User, now: datetime, known: dict[str, int]
) -> None:
    people = [
        replace(CLEO, email=DAN.email),
        replace(DAN, email="dan.new@example.org", status="Former patron"),
    ]
    applied(checked(patrons, file_of(people), by=owner, now=now), by=owner, now=now)
    assert addresses()["Cleo"] == "cleo@"


def test_two_who_want_what_a_third_leaves_are_one_and_one_who_keeps_theirs(
    patrons: Group, owner: User, now: datetime, known: dict[str, int]
) -> None:
    people = [
        replace(ANNA, email=DAN.email),
        replace(BEN, email=DAN.email),
        replace(DAN, email="d@example.org"),
    ]
    applied(checked(patrons, file_of(people), by=owner, now=now, page=1), by=owner, now=now, page=1)
    assert addresses() == {"Anna": "dan@", "Ben": "ben@", "Cleo": "cleo@", "Dan": "d@"}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_who_does_not_get_what_another_gets_leaves_nothing_to_a_third(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], order: tuple[int, ...]
) -> None:
    people = [
        replace(ANNA, email=DAN.email),
        replace(BEN, email=DAN.email),
        replace(CLEO, email=BEN.email),
        replace(DAN, email="d@example.org"),
    ]
    first = "Anna" if order.index(0) < order.index(1) else "Ben"
    run = checked(patrons, file_of([people[n] for n in order]), by=owner, now=now, page=2)
    taken = set(ImportRow.objects.filter(import_run=run, flag="taken").values_list("name", flat=True))
    assert taken == ({"Ben", "Cleo"} if first == "Anna" else {"Anna"})
    applied(run, by=owner, now=now, page=2)
    moved = {"Anna": "dan@"} if first == "Anna" else {"Ben": "dan@", "Cleo": "ben@"}
    assert addresses() == {"Anna": "anna@", "Ben": "ben@", "Cleo": "cleo@", "Dan": "d@", **moved}


@pytest.mark.parametrize("page", [1, 10])
def test_what_somebody_asks_for_and_does_not_get_is_still_the_row_s_of_whoever_has_it(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], page: int
) -> None:
    add_contact(patrons.creator, "hand@example.org", "Hand", now=now)
    hand = samples.patron(9, name="Hand", email="hand@example.org", tier="Hobbyist")
    people = [replace(ANNA, email="hand@example.org"), hand, BEN, CLEO, DAN]
    run = applied(
        checked(patrons, file_of(people), by=owner, now=now, page=page), by=owner, now=now, page=page
    )
    assert summarise(run).verdicts["duplicate"] == 0
    assert OutsideId.objects.get(value=hand.user_id).contact.address_key == "hand@example.org"


@pytest.mark.parametrize("page", [1, 10])
def test_who_does_not_get_an_address_and_is_listed_again_under_their_own_is_listed_twice(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], page: int
) -> None:
    again = replace(ANNA, name="Somebody")
    content = file_of([again, BEN, CLEO, DAN, replace(ANNA, email=BEN.email)])
    # Without a number; and read last, though the file names it first.
    head, nameless, *others, wanting = content.splitlines(keepends=True)
    nameless = nameless.replace(ANNA.user_id.encode(), b"")
    run = checked(patrons, b"".join([head, *others, wanting, nameless]), by=owner, now=now, page=page)
    assert ImportRow.objects.get(import_run=run, verdict="duplicate").name == "Somebody"


@pytest.mark.parametrize(
    ("people", "moved"),
    [
        # Dan is first by a row that is no use, and Anna by one that is.
        (
            [
                replace(DAN, name="two\nlines"),
                replace(ANNA, email="new@example.org"),
                replace(BEN, email=ANNA.email),
                replace(DAN, email="new@example.org"),
            ],
            {"Anna": "new@", "Ben": "anna@"},
        ),
        # What Dan's row of no use says is nothing that he wants.
        (
            [
                replace(DAN, email=BEN.email, status="Former patron"),
                replace(CLEO, email=DAN.email),
                replace(DAN, email="new@example.org"),
                BEN,
            ],
            {"Cleo": "dan@", "Dan": "new@"},
        ),
    ],
)
def test_a_row_of_no_use_says_nothing_of_who_leaves(
    patrons: Group,
    owner: User,
    now: datetime,
    known: dict[str, int],
    people: list[samples.Patron],
    moved: dict[str, str],
) -> None:
    applied(checked(patrons, file_of(people), by=owner, now=now), by=owner, now=now)
    assert addresses() == {"Anna": "anna@", "Ben": "ben@", "Cleo": "cleo@", "Dan": "dan@", **moved}


@pytest.mark.parametrize("page", [1, 10])
def test_what_a_newcomer_brings_is_not_taken_by_whoever_is_listed_below_them(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], page: int
) -> None:
    eve = samples.patron(9, name="Eve", email="new@example.org", tier="Hobbyist")
    people = [eve, replace(ANNA, email="new@example.org"), BEN, CLEO, DAN]
    run = checked(patrons, file_of(people), by=owner, now=now, page=page)
    assert ImportRow.objects.get(import_run=run, flag="taken").name == "Anna"
    applied(run, by=owner, now=now, page=page)
    assert addresses() == {"Anna": "anna@", "Ben": "ben@", "Cleo": "cleo@", "Dan": "dan@", "Eve": "new@"}


def test_an_address_taken_since_the_dry_run_is_left_to_whoever_has_it(
    patrons: Group, owner: User, now: datetime, known: dict[str, int]
) -> None:
    run = checked(patrons, file_of(AFTER), by=owner, now=now)
    add_contact(patrons.creator, "dan.new@example.org", "Other", now=now)
    applied(run, by=owner, now=now, page=1)
    found = addresses()
    assert (found["Cleo"], found["Dan"]) == ("cleo@", "dan@")
    assert (found["Anna"], found["Ben"]) == ("ben@", "anna@"), "others of the file are not held back"
    assert set(ImportRow.objects.filter(import_run=run, flag="taken").values_list("name", flat=True)) == {
        "Cleo",
        "Dan",
    }


class Killed(BaseException):
    """kill -9."""


@pytest.mark.parametrize("at", range(3))
def test_a_killed_worker_leaves_nobody_without_an_address_and_the_next_comes_to_the_same(
    patrons: Group,
    owner: User,
    now: datetime,
    known: dict[str, int],
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = checked(patrons, file_of(AFTER), by=owner, now=now)
    request_apply(run, consent=True, gone_at=None, typed="", by=owner, now=now)
    write, written = readdressing.write_addresses, 0

    def dies(moves: dict[int, str]) -> None:
        nonlocal written
        if written == at:
            raise Killed
        write(moves)
        written += 1
        if at == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(readdressing, "BATCH", 1)
        patch.setattr(readdressing, "write_addresses", dies)
        with pytest.raises(Killed):
            apply_import(run.pk, now=now, page=1)
    assert set(addresses().values()) <= {"anna@", "ben@", "cleo@", "dan@", "dan.new@"}
    Import.objects.update(lease_until=None)
    assert apply_import(run.pk, now=now, page=1)
    assert addresses() == WANTED


@pytest.mark.parametrize("at", range(1, 7))
def test_killed_between_two_writes_of_a_batch_a_worker_leaves_everybody_where_they_were(
    patrons: Group,
    owner: User,
    now: datetime,
    known: dict[str, int],
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = checked(patrons, file_of(AFTER), by=owner, now=now)
    request_apply(run, consent=True, gone_at=None, typed="", by=owner, now=now)
    monkeypatch.setattr(readdressing, "BATCH", 1)
    writes = 0

    def die(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        nonlocal writes
        if sql.startswith('UPDATE "groups_contact"'):
            writes += 1
            if writes == at:
                raise Killed
        return execute(sql, params, many, context)

    with pytest.raises(Killed), connection.execute_wrapper(die):
        apply_import(run.pk, now=now)
    swapped = {"Anna": "ben@", "Ben": "anna@"} if at > 3 else {"Anna": "anna@", "Ben": "ben@"}
    assert addresses() == {**swapped, "Cleo": "cleo@", "Dan": "dan@"}
    Import.objects.update(lease_until=None)
    assert apply_import(run.pk, now=now)
    assert addresses() == WANTED


def test_a_worker_whose_lease_was_taken_over_between_two_batches_moves_nobody_more(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checked(patrons, file_of(AFTER), by=owner, now=now)
    request_apply(run, consent=True, gone_at=None, typed="", by=owner, now=now)
    write, left = readdressing.write_addresses, []

    def stalls(moves: dict[int, str]) -> None:
        write(moves)
        Import.objects.update(lease_until=None)
        assert take_lease(Import.objects.get(pk=run.pk), seconds=60)
        left.append(addresses())

    monkeypatch.setattr(readdressing, "BATCH", 1)
    monkeypatch.setattr(readdressing, "write_addresses", stalls)
    assert not apply_import(run.pk, now=now, page=1)
    assert left == [addresses()]


def test_who_was_readdressed_by_hand_while_addresses_are_passed_on_stays_there(
    patrons: Group, owner: User, now: datetime, known: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checked(patrons, file_of(AFTER), by=owner, now=now)
    keep_lease = readdressing.keep_lease

    def and_somebody_writes(import_run: Import, *, seconds: float) -> bool:
        Contact.objects.filter(name="Anna").update(address_key="by.hand@example.org")
        return keep_lease(import_run, seconds=seconds)

    monkeypatch.setattr(readdressing, "BATCH", 1)
    monkeypatch.setattr(readdressing, "keep_lease", and_somebody_writes)
    applied(run, by=owner, now=now)
    assert addresses() == {**WANTED, "Anna": "by.hand@"}

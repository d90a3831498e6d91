"""A killed worker's successor goes on where it was and comes to the same end."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from accounts.models import User
from groups.imports.mapping import Mapping
from groups.models import Group, Import, ImportRow
from groups.services import (
    apply_import,
    applying,
    check_import,
    checking,
    choose_mapping,
    imports,
    request_apply,
    summarise,
)
from groups.services.imports import NotChecked
from rows.clock import db_now
from rows.lease import take_lease
from tests import samples
from tests.factories import UserFactory
from tests.groups.flow import applied, checked, opened, state_of

pytestmark = pytest.mark.usefixtures("hobbyist", "collector", "merchant")
OCTOBER = samples.patreon_export(samples.october(), samples.OCTOBER)
NOVEMBER = samples.patreon_export(samples.november(), samples.NOVEMBER)
PAGE = 4


class Killed(BaseException):
    """kill -9: nothing after it runs, and nobody gives the lease back."""


def dies_after(pages: int, work: Callable[..., object]) -> Callable[..., object]:
    left = pages

    def working(*arguments: object) -> object:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        return work(*arguments)

    return working


def lapse(run: Import) -> None:
    """The dead worker's lease runs out."""
    Import.objects.filter(pk=run.pk).update(lease_until=datetime(2000, 1, 1, tzinfo=samples.OCTOBER.tzinfo))


@pytest.fixture
def whole(patrons: Group, owner: User, now: datetime) -> list[tuple[object, ...]]:
    """What one uninterrupted run of both months comes to; taken back afterwards."""
    with transaction.atomic():
        october = applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
        november = checked(patrons, NOVEMBER, by=owner, now=now)
        applied(november, by=owner, now=now, gone_at=november.as_of)
        state = [*state_of(patrons), summarise(october), summarise(november)]
        transaction.set_rollback(True)
    return state


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_killed_between_pages_an_import_comes_to_the_same_end(
    patrons: Group,
    owner: User,
    now: datetime,
    whole: list[tuple[object, ...]],
    pages: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summaries = []
    for content, end in ((OCTOBER, None), (NOVEMBER, samples.NOVEMBER)):
        run = opened(patrons, content, by=owner, now=now)
        choose_mapping(run, Mapping.from_json(run.mapping), now=now)
        for module, name, work in (
            (checking, "_check_page", check_import),
            (applying, "_apply_page", apply_import),
        ):
            if work is apply_import:
                run.refresh_from_db()
                request_apply(run, consent=True, gone_at=end, by=owner, now=now)
            with monkeypatch.context() as killing:
                killing.setattr(module, name, dies_after(pages, getattr(module, name)))
                with pytest.raises(Killed):
                    work(run.pk, now=now, page=PAGE)
            assert not work(run.pk, now=now, page=PAGE)  # the lease is still the dead worker's
            lapse(run)
            assert work(run.pk, now=now, page=PAGE)
        run.refresh_from_db()
        summaries.append(summarise(run))

    assert [*state_of(patrons), *summaries] == whole


def test_a_page_that_fails_half_way_leaves_nothing_of_itself(
    patrons: Group, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checked(patrons, OCTOBER, by=owner, now=now)
    request_apply(run, consent=True, gone_at=None, by=owner, now=now)
    before = state_of(patrons)

    with monkeypatch.context() as killing:
        killing.setattr(applying, "_write_memberships", dies_after(0, applying._write_memberships))
        with pytest.raises(Killed):
            apply_import(run.pk, now=now)

    assert state_of(patrons) == before
    assert not run.rows.filter(contact__isnull=False).exists()


def test_killed_before_its_end_is_committed_an_import_says_the_same(
    patrons: Group,
    owner: User,
    now: datetime,
    whole: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    october = applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
    november = checked(patrons, NOVEMBER, by=owner, now=now)
    request_apply(november, consent=True, gone_at=november.as_of, by=owner, now=now)
    with monkeypatch.context() as killing:
        killing.setattr(applying, "end_lease", dies_after(0, applying.end_lease))
        with pytest.raises(Killed):
            apply_import(november.pk, now=now)
    lapse(november)

    assert apply_import(november.pk, now=now)
    november.refresh_from_db()
    assert [*state_of(patrons), summarise(october), summarise(november)] == whole


@pytest.mark.parametrize("work", ["check", "apply"])
@pytest.mark.parametrize("step", ["page", "finish"])
def test_a_worker_whose_lease_was_taken_over_writes_nothing_more(
    patrons: Group, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch, work: str, step: str
) -> None:
    if work == "check":
        run = opened(patrons, OCTOBER, by=owner, now=now)
        choose_mapping(run, Mapping.from_json(run.mapping), now=now)
        module, service = checking, check_import
    else:
        run = checked(patrons, OCTOBER, by=owner, now=now)
        request_apply(run, consent=True, gone_at=None, by=owner, now=now)
        module, service = applying, apply_import
    name = f"_{work}_page" if step == "page" else "_finish"
    original = getattr(module, name)
    seen = []

    def stalled(*arguments: object) -> object:
        if not seen:
            lapse(run)
            assert take_lease(Import.objects.get(pk=run.pk), seconds=60)
            seen.append((state_of(patrons), ImportRow.objects.count(), Import.objects.get(pk=run.pk).state))
        return original(*arguments)

    monkeypatch.setattr(module, name, stalled)
    assert not service(run.pk, now=now, page=PAGE)

    assert seen == [(state_of(patrons), ImportRow.objects.count(), Import.objects.get(pk=run.pk).state)]


def test_a_new_choice_stops_the_dry_run_that_is_under_way(
    patrons: Group, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(patrons, OCTOBER, by=owner, now=now)
    mapping = Mapping.from_json(run.mapping)
    choose_mapping(run, mapping, now=now)
    begin = checking._begin

    def interrupted(import_run: Import) -> bool:
        choose_mapping(run, mapping, as_of=now - timedelta(days=1), now=now)
        return begin(import_run)

    with monkeypatch.context() as choosing:
        choosing.setattr(checking, "_begin", interrupted)
        assert not check_import(run.pk, now=now)

    assert not ImportRow.objects.exists()
    assert check_import(run.pk, now=now)
    run.refresh_from_db()
    assert run.as_of == now - timedelta(days=1)


def test_looking_through_the_file_for_whoever_leaves_keeps_the_lease(
    patrons: Group, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(checked(patrons, OCTOBER, by=owner, now=now), by=owner, now=now)
    run = opened(patrons, NOVEMBER, by=owner, now=now)
    choose_mapping(run, Mapping.from_json(run.mapping), now=now)
    begin, possible_moves, free = checking._begin, checking.possible_moves, []

    def takes_long(import_run: Import) -> bool:
        begun = begin(import_run)
        lapse(run)
        return begun

    def looked_through(*arguments: Any) -> dict[int, str]:
        free.append(Import.objects.unleased(db_now()).filter(pk=run.pk).exists())
        return possible_moves(*arguments)

    monkeypatch.setattr(checking, "_begin", takes_long)
    monkeypatch.setattr(checking, "possible_moves", looked_through)
    assert check_import(run.pk, now=now)
    assert free == [False]


def test_a_dry_run_started_afresh_under_the_button_is_not_applied(
    patrons: Group, owner: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checked(patrons, OCTOBER, by=owner, now=now)
    mapping = Mapping.from_json(run.mapping)
    monkeypatch.setattr(imports, "_refuse_older", lambda import_run: choose_mapping(run, mapping, now=now))

    with pytest.raises(NotChecked):
        request_apply(run, consent=True, gone_at=None, by=owner, now=now)

    assert Import.objects.get().state == Import.State.CHECKING


def test_accounts_found_while_resuming_are_attached(patrons: Group, owner: User, now: datetime) -> None:
    member = UserFactory.create(email="patron1@example.org")
    run = checked(patrons, OCTOBER, by=owner, now=now, page=3)
    applied(run, by=owner, now=now, page=3)

    assert member.contacts.get().address_key == "patron1@example.org"

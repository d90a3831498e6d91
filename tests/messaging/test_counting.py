"""Large dry runs: counted by a worker, page by page, and the same as those that are counted at once."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from distribution.services import choose_bundles
from groups.models import Contact, Group
from messaging import services, tasks
from messaging.models import DryRun, Message, Preference
from messaging.services import counting
from rows.clock import db_now
from tests.distribution.conftest import at_once, killed_at
from tests.factories import BundleFactory, ContactFactory, MembershipFactory, ReleaseFactory

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
LATER = timedelta(minutes=6)


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "AT_ONCE", 4)
    monkeypatch.setattr(counting, "PAGE", 2)


@pytest.fixture
def run(draft: Message, people: list[Contact], now: datetime) -> DryRun:
    """Asked for: five people, of whom one wants no mail."""
    services.set_preference(people[3], Preference.Choice.NOTHING, now=now)
    asked = services.ask_dry_run(draft, now=now)
    assert asked is not None
    return asked


def counted(run: DryRun) -> DryRun:
    services.count_dry_run(run.pk, now=run.asked_at)
    run.refresh_from_db()
    return run


def test_fifty_thousand_are_counted_at_once(
    draft: Message, people: list[Contact], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "AT_ONCE", 5)
    assert services.ask_dry_run(draft, now=now) is None
    assert not DryRun.objects.exists()


def test_who_left_does_not_make_it_large(draft: Message, people: list[Contact], now: datetime) -> None:
    people[0].memberships.update(ended_at=now - DAY)
    assert services.ask_dry_run(draft, now=now) is None


def test_it_comes_to_the_same_as_counting_at_once(draft: Message, run: DryRun, now: datetime) -> None:
    assert not services.outlook(draft, now=now, run=run).counted
    there = services.outlook(draft, now=now, run=counted(run))
    at_once = services.outlook(draft, now=now)
    assert there.counted
    assert (there.people, there.mailed, there.no_mail) == (5, 4, 1)
    assert {**vars(there), "run": None, "verdict": None} == {**vars(at_once), "verdict": None}
    assert (run.people, run.counted, run.done_at) == (5, 5, now)


def test_of_a_reminder_too(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = start(confirm(draft)).release
    work()
    people[0].grants.update(redeemed_at=now)
    reminder = services.start_reminder(release, now=now)
    run = services.ask_dry_run(reminder, now=now, at=now + 3 * DAY)
    assert run is not None
    assert run.at == now + 3 * DAY
    foreseen = []
    count = counting.count

    def look_and_count(page: Any) -> dict[str, int]:
        foreseen.append(DryRun.objects.get().people)
        return count(page)

    monkeypatch.setattr(counting, "count", look_and_count)
    assert (counted(run).counts, run.people) == ({"": 4}, 4)
    assert set(foreseen) == {4}


def test_who_joins_while_it_is_counted_is_not_counted(
    run: DryRun, hobbyist: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = counting.count

    def join_and_count(page: Any) -> dict[str, int]:
        contact = ContactFactory.create(creator=hobbyist.creator)
        MembershipFactory.create(group=hobbyist, contact=contact, recorded_at=run.asked_at + DAY)
        return count(page)

    monkeypatch.setattr(counting, "count", join_and_count)
    assert counted(run).counts == {"": 4, "no_mail": 1}


def test_the_same_question_is_asked_once_and_its_answer_kept_five_minutes(
    draft: Message, run: DryRun, now: datetime
) -> None:
    assert services.ask_dry_run(draft, now=now + LATER) == run
    counted(run)
    for _again in range(2):
        kept = services.ask_dry_run(draft, now=now + timedelta(minutes=4))
        assert kept is not None
        assert kept.done_at == now
    anew = services.ask_dry_run(draft, now=now + LATER)
    assert anew is not None
    assert (anew.done_at, anew.asked_at, anew.counts, anew.cursor) == (None, now + LATER, {}, 0)


@pytest.mark.parametrize("change", ["files", "people", "time"])
def test_another_question_is_counted_anew(
    draft: Message, run: DryRun, hobbyist: Group, now: datetime, change: str
) -> None:
    counted(run)
    at = None
    if change == "files":
        choose_bundles(
            draft.release, [*hobbyist.creator.bundles.all(), BundleFactory.create(creator=hobbyist.creator)]
        )
    elif change == "people":
        Group.objects.filter(pk=hobbyist.pk).update(roster_version=7)
    else:
        at = now + DAY
    anew = services.ask_dry_run(draft, now=now, at=at)
    assert anew is not None
    assert (anew.done_at, anew.at) == (None, at or now)
    assert anew.epoch > run.epoch
    assert counted(anew).counted == 5


def test_what_is_counted_for_the_question_before_is_thrown_away(
    draft: Message, run: DryRun, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = counting.count

    def ask_and_count(page: Any) -> dict[str, int]:
        services.ask_dry_run(draft, now=now, at=now + DAY)
        return count(page)

    monkeypatch.setattr(counting, "count", ask_and_count)
    assert (counted(run).counts, run.done_at, run.at) == ({}, None, now + DAY)
    monkeypatch.undo()
    assert counted(run).counted == 5


def test_what_is_asked_before_the_people_are_known_counts_too(
    draft: Message, run: DryRun, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    everyone = counting.everyone

    def ask_and_look(*of_whom: Any, **when: Any) -> Any:
        services.ask_dry_run(draft, now=now, at=now + DAY)
        return everyone(*of_whom, **when)

    monkeypatch.setattr(counting, "everyone", ask_and_look)
    assert (counted(run).people, run.at) == (None, now + DAY)


def test_a_draft_that_is_deleted_meanwhile_is_counted_by_nobody(run: DryRun) -> None:
    run.message.delete()
    services.count_dry_run(run.pk, now=run.asked_at)
    assert not DryRun.objects.exists()


def test_who_holds_it_counts_alone(run: DryRun) -> None:
    DryRun.objects.update(lease_until=db_now() + DAY)
    assert counted(run).people is None
    DryRun.objects.update(lease_until=None)
    assert counted(run).counted == 5
    assert counted(run).counted == 5


@pytest.mark.django_db(transaction=True)
def test_killed_before_any_statement_it_is_counted_to_the_end_by_the_next(run: DryRun) -> None:
    for statement in range(1, 60):
        DryRun.objects.update(counts={}, cursor=0, people=None, done_at=None, lease_until=None)
        with killed_at(statement):
            services.count_dry_run(run.pk, now=run.asked_at)
        run.refresh_from_db()
        if run.done_at:
            break
        DryRun.objects.update(lease_until=db_now() - DAY)
        assert counted(run).counts == {"": 4, "no_mail": 1}
    assert statement > 15
    assert run.counts == {"": 4, "no_mail": 1}


def test_the_sweep_counts_what_nobody_counts_and_one_that_fails_keeps_no_other(
    draft: Message, run: DryRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.sweep()
    run.refresh_from_db()
    assert run.counted == 5
    DryRun.objects.update(done_at=None, lease_until=None, cursor=0, counts={})
    monkeypatch.setattr(counting, "count", lambda _page: 1 / 0)
    tasks.sweep()
    assert "messaging.dryrun" in caplog.text
    run.refresh_from_db()
    assert run.counts == {}


def test_its_task_counts_it(run: DryRun) -> None:
    tasks.count_dry_run(run.pk)
    run.refresh_from_db()
    assert run.counted == 5


def test_asking_again_costs_little(
    draft: Message, run: DryRun, now: datetime, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(8):
        services.ask_dry_run(draft, now=now)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_eight_tabs_that_ask_and_eight_workers_that_count_come_to_one_answer(
    draft: Message, people: list[Contact], now: datetime
) -> None:
    runs = at_once(8, lambda _number: services.ask_dry_run(draft, now=now))
    assert {run.question for run in runs if run} == {DryRun.objects.get().question}
    at_once(8, lambda _number: services.count_dry_run(draft.pk, now=now))
    assert DryRun.objects.get().counts == {"": 5}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_draft_is_deleted_or_asked_about_and_nobody_stumbles(people: list[Contact], now: datetime) -> None:
    creator = people[0].creator
    for _round in range(30):
        groups = [people[0].memberships.get().group]
        release = ReleaseFactory.create(
            creator=creator, bundles=[BundleFactory.create(creator=creator)], groups=groups
        )
        message = services.start_message(release)
        jobs = [partial(services.ask_dry_run, message, now=now), partial(services.discard_draft, release)]
        at_once(2, lambda number, jobs=jobs: jobs[number]())  # type: ignore[misc]
        assert not Message.objects.exists()
        assert not DryRun.objects.exists()

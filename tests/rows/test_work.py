"""Work that goes wrong: each item for itself, later each time, told, and in the end given up if it may be."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connections

from distribution.models import Release
from rows.clock import db_now
from rows.lease import end_lease, take_lease
from rows.work import FIRST_WAIT, GIVE_UP_AT, LONGEST_WAIT, TELL_AT, Sweep, put_off
from tests.factories import ReleaseFactory

pytestmark = pytest.mark.django_db


class Diary:
    """What a sweep over releases did; those in `broken` raise."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.told: list[int] = []
        self.given_up: list[int] = []
        self.broken: set[int] = set()

    def work(self, pk: int) -> None:
        release = Release.objects.get(pk=pk)
        take_lease(release, seconds=60)
        if pk in self.broken:
            raise RuntimeError(f"no \x00 luck {'x' * 400}")
        self.done.append(pk)
        end_lease(release)

    def sweep(self, *, gives_up: bool = False) -> Sweep[Release]:
        return Sweep(
            due=lambda now: Release.objects.order_by("pk"),
            work=self.work,
            tell=lambda row: self.told.append(row.attempts),
            give_up=(lambda row: self.given_up.append(row.attempts)) if gives_up else None,
        )


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def releases() -> list[Release]:
    return [ReleaseFactory.create() for _ in range(3)]


def time_passes(release: Release) -> None:
    """Its lease has lapsed and its next attempt may begin."""
    Release.objects.filter(pk=release.pk).update(lease_until=None, not_before=db_now() - timedelta(seconds=1))


def waits(release: Release) -> timedelta:
    release.refresh_from_db()
    assert release.not_before is not None
    return release.not_before - db_now()


def test_one_that_raises_keeps_no_other_from_its_turn(diary: Diary, releases: list[Release]) -> None:
    first, second, third = releases
    diary.broken = {first.pk}
    diary.sweep().run()
    assert diary.done == [second.pk, third.pk]
    first.refresh_from_db()
    assert first.attempts == 1
    assert first.last_error.startswith("RuntimeError: no  luck x")
    assert Release.objects.troubled().get() == first


def test_it_is_tried_later_each_time_and_at_last_once_an_hour(diary: Diary, releases: list[Release]) -> None:
    broken = releases[0]
    diary.broken = {broken.pk}
    expected = [FIRST_WAIT, FIRST_WAIT * 4, FIRST_WAIT * 16, FIRST_WAIT * 64, LONGEST_WAIT, LONGEST_WAIT]
    for wait in expected:
        diary.sweep().run(only=broken.pk)
        assert wait - timedelta(seconds=30) < waits(broken) <= wait
        Release.objects.update(lease_until=None)
        diary.sweep().run(only=broken.pk)
        broken.refresh_from_db()
        assert expected[broken.attempts - 1] == wait, "it was tried before its time"
        time_passes(broken)


def test_an_operator_hears_of_it_and_it_is_given_up_if_it_may_be(
    diary: Diary, releases: list[Release]
) -> None:
    broken = releases[0]
    diary.broken = {broken.pk}
    for _ in range(GIVE_UP_AT):
        diary.sweep(gives_up=True).run(only=broken.pk)
        time_passes(broken)
    assert diary.told == list(range(TELL_AT, GIVE_UP_AT + 1))
    assert diary.given_up == [GIVE_UP_AT]
    diary.sweep().run(only=broken.pk)
    assert diary.given_up == [GIVE_UP_AT], "what somebody is entitled to is tried for ever"


def test_what_went_well_is_forgotten_trouble(diary: Diary, releases: list[Release]) -> None:
    mended = releases[0]
    diary.broken = {mended.pk}
    diary.sweep().run(only=mended.pk)
    time_passes(mended)
    diary.broken = set()
    diary.sweep().run(only=mended.pk)
    mended.refresh_from_db()
    assert (mended.attempts, mended.not_before, mended.last_error) == (0, None, "")


def test_whoever_found_it_taken_forgets_nobody_elses_trouble(diary: Diary, releases: list[Release]) -> None:
    held = releases[0]
    Release.objects.filter(pk=held.pk).update(attempts=2)

    def finds_it_taken(pk: int) -> None:
        take_lease(Release.objects.get(pk=pk), seconds=60)

    sweep = Sweep(due=lambda now: Release.objects.all(), work=finds_it_taken, tell=diary.told.append)
    sweep.run(only=held.pk)
    held.refresh_from_db()
    assert held.attempts == 2


def test_what_a_worker_holds_is_left_alone(diary: Diary, releases: list[Release]) -> None:
    take_lease(releases[0], seconds=60)
    diary.sweep().run()
    assert diary.done == [release.pk for release in releases[1:]]


def test_what_is_gone_when_it_raises_is_no_trouble(diary: Diary, releases: list[Release]) -> None:
    def vanishes(pk: int) -> None:
        Release.objects.filter(pk=pk).delete()
        raise LookupError

    sweep = Sweep(due=lambda now: Release.objects.all(), work=vanishes, tell=diary.told.append)
    sweep.run()
    assert not Release.objects.exists()


def test_a_database_that_is_away_is_nothing_that_a_row_did(
    diary: Diary, releases: list[Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(pk: int) -> None:
        raise OperationalError("server closed the connection")

    sweep = Sweep(due=lambda now: Release.objects.all(), work=away, tell=diary.told.append)
    monkeypatch.setattr(type(connections["default"]), "is_usable", lambda self: False)
    with pytest.raises(OperationalError):
        sweep.run()
    assert not Release.objects.troubled().exists()


def test_what_waits_for_something_that_is_away_has_done_nothing_wrong(
    diary: Diary, releases: list[Release]
) -> None:
    waiting = releases[0]
    take_lease(waiting, seconds=60)
    put_off(waiting, ConnectionError("the store"))
    assert timedelta(seconds=50) < waits(waiting) <= timedelta(seconds=60)
    assert (waiting.attempts, waiting.last_error, waiting.lease_until) == (0, "ConnectionError", None)
    diary.sweep().run()
    assert waiting.pk not in diary.done


def test_whoever_lost_the_lease_puts_nothing_of_its_successor_off(releases: list[Release]) -> None:
    late = releases[0]
    take_lease(late, seconds=-1)
    take_lease(Release.objects.get(pk=late.pk), seconds=60)
    put_off(late, ConnectionError("the store"))
    late.refresh_from_db()
    assert late.lease_until is not None
    assert (late.not_before, late.last_error) == (None, "")

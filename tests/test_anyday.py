"""The suite on another day: which days those are, and that every clock that tests read is moved."""

import os
from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from rows.clock import DbNow, db_now
from tests.anyday import DAYS, KINDS, choose

HOUR = timedelta(hours=1)


def test_each_kind_of_day_comes_and_lies_in_the_next_five_years() -> None:
    now = datetime.now(UTC)
    chosen = [choose("random", now=now) for _time in range(400)]
    assert all(now < at < now + timedelta(days=DAYS) for at in chosen)
    for kind, is_one in KINDS.items():
        assert any(is_one(at.date()) for at in chosen), kind
    assert len({at.time() for at in chosen}) > 390


def test_a_day_is_chosen_again_by_its_name() -> None:
    for name in ("2028-02-29T23:59:00Z", "2028-02-29T23:59"):
        assert choose(name, now=datetime.now(UTC)) == datetime(2028, 2, 29, 23, 59, tzinfo=UTC)


def test_clocks_are_changed_on_four_days_of_a_year() -> None:
    days = [date(2027, 1, 1) + timedelta(days=number) for number in range(365)]
    changes = [f"{day:%m-%d}" for day in days if KINDS["a change of the clocks"](day)]
    assert changes == ["03-14", "03-28", "10-31", "11-07"]


@pytest.mark.django_db
def test_python_and_the_database_read_the_clock_of_that_day(member: User) -> None:
    if wanted := os.environ.get("ANYDAY"):
        begun = datetime.fromisoformat(wanted)
        assert begun <= datetime.now(UTC) < begun + HOUR
    at = User.objects.annotate(at=DbNow()).values_list("at", flat=True).get()
    for read in (db_now(), at, datetime.now(UTC)):
        assert abs(read - timezone.now()) < timedelta(minutes=1)

"""Times as the clock on a creator's wall shows them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django import forms
from django.utils import timezone

from studio.forms.moments import LocalMoment

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")


@pytest.fixture(autouse=True)
def in_november(now: datetime) -> object:
    with time_machine.travel(now, tick=False):
        yield


def read(text: str, zone: ZoneInfo = BERLIN) -> datetime | None:
    with timezone.override(zone):
        return LocalMoment(required=False).clean(text)


def test_a_time_is_an_instant_in_the_creators_zone() -> None:
    assert read("2026-12-01T18:30") == datetime(2026, 12, 1, 17, 30, tzinfo=UTC)
    assert read("2026-12-01 18:30", LORD_HOWE) == datetime(2026, 12, 1, 7, 30, tzinfo=UTC)


def test_nothing_is_no_time() -> None:
    assert read("") is None


@pytest.mark.parametrize(
    ("text", "zone", "next_one"),
    [("2027-03-28T02:30", BERLIN, "03:30"), ("2027-10-03T02:10", LORD_HOWE, "02:40")],
)
def test_a_time_that_the_clocks_leave_out_is_refused_with_the_next_one(
    text: str, zone: ZoneInfo, next_one: str
) -> None:
    with pytest.raises(forms.ValidationError, match=f"clocks go forward. {next_one} would be the next"):
        read(text, zone)


def test_a_time_that_the_clocks_show_twice_is_the_first_one() -> None:
    assert read("2027-10-31T02:30") == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00", "9999-12-31T23:59", "2028-01-01T00:00", "2025-01-01T00:00"]
)
def test_a_time_far_away_is_refused_before_it_overflows(text: str) -> None:
    with pytest.raises(forms.ValidationError, match="within a year"):
        read(text)


@pytest.mark.parametrize("text", ["soon", "2026-02-30T10:00", "2026-12-01T25:00", "2026-12", "١٢", "\x00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(forms.ValidationError, match="day and a time"):
        read(text)

"""The suite on another day: its clock, and the database's, at an instant of the next five years that ticks from there.

A test that takes it for granted that it is today, or that a fixed day lies before or after it, fails then. Processes
that tests start keep the machine's clock, and no test on another day compares theirs with its own.
"""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import time_machine
from django.db import connection

DAYS = 5 * 365
SECONDS_A_DAY = 24 * 60 * 60
# Where clocks are changed, on different days.
ZONES = [ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")]
ONE = timedelta(days=1)

KINDS: dict[str, Callable[[date], bool]] = {
    "any day": lambda day: True,
    "the end of a month": lambda day: (day + ONE).day == 1,
    "the last or the first day of a year": lambda day: (day.month, day.day) in {(12, 31), (1, 1)},
    "29 February": lambda day: (day.month, day.day) == (2, 29),
    "a change of the clocks": lambda day: any(
        _midnight(day, zone).utcoffset() != _midnight(day + ONE, zone).utcoffset() for zone in ZONES
    ),
}


def choose(wanted: str, *, now: datetime) -> datetime:
    """The instant that `wanted` names in ISO's words, or, if it is `random`, one of the next five years.

    Half of those are on days on which programs that reckon with dates go wrong.
    """
    if wanted != "random":
        at = datetime.fromisoformat(wanted)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    chance = random.SystemRandom()
    kind = "any day" if chance.random() < 0.5 else chance.choice(list(KINDS))
    days = (now.date() + number * ONE for number in range(1, DAYS))
    day = chance.choice([day for day in days if KINDS[kind](day)])
    return _midnight(day, UTC) + timedelta(seconds=chance.randrange(SECONDS_A_DAY))


class OtherDay:
    """This process's clock at `at` and ticking, from when it is made until it is left."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self._ahead = at - datetime.now(UTC)
        self._travel = time_machine.travel(at, tick=True)
        self._travel.start()

    def leave(self) -> None:
        self._travel.stop()

    def tell_database(self) -> None:
        """The test database's clock is as far ahead: leases are reckoned by it. SQLite's is this process's own.

        A function of ours stands before PostgreSQL's, as the tests' settings look for it in `public` first.
        """
        if connection.vendor != "postgresql":
            return
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE OR REPLACE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
                f"$$ SELECT pg_catalog.clock_timestamp() + interval '{self._ahead.total_seconds()} seconds' $$"
            )


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)

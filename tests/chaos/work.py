"""The run of work that is not mail: recalls, imports, uploads and late joiners, all at once, while everything breaks."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.chaos.faults import Fault
from tests.chaos.ground import Postgres, Redis
from tests.chaos.scene import Scene, StoodStill, playing, say
from tests.chaos.work_judge import Brought, WorkLedger, judge_work, left_by_no_sweep

# Seconds after which the run's sweep forgets an upload that nobody goes on with.
ABANDONED_AFTER = 8

MIB: Final = 1024 * 1024
PLACES = (
    "mid_page_of_recall",
    "after_page_of_recall",
    "mid_page_of_import",
    "after_page_of_check",
    "after_passing_on",
    "after_page_of_import",
    "mid_end_of_import",
    "after_examining",
    "mid_placing",
    "after_placing",
    "after_placing_a_copy",
    "mid_page_of_grants",
    "after_late_joiners",
)
AROUND = (
    "a worker is shot anywhere",
    "a worker is stopped anywhere",
    "PostgreSQL ends every connection",
    "PostgreSQL crashes",
    "PostgreSQL commits and nobody hears",
    "the cable is cut inside a commit",
    "Redis is emptied",
    "a worker is asked to go",
)
# Whatever is behind: a run is over when there is nothing of it.
BEHIND = """SELECT
    (SELECT count(*) FROM distribution_release WHERE state IN ('confirmed', 'granting', 'recalling'))
    + (SELECT count(*) FROM groups_import WHERE state IN ('checking', 'applying'))
    + (SELECT count(*) FROM library_upload)
    + (SELECT count(*) FROM distribution_release release
        JOIN distribution_releaseaudience named ON named.release_id = release.id
        JOIN groups_membership member ON member.group_id = named.group_id AND member.ended_at IS NULL
        WHERE release.rule = 'late_joiners' AND release.state = 'published' AND NOT EXISTS (
            SELECT FROM distribution_grant given
            WHERE given.release_id = release.id AND given.contact_id = member.contact_id))"""
MOVING = """SELECT sum(cursor), sum(epoch) FROM distribution_release
    UNION ALL SELECT sum(cursor), sum(epoch) FROM groups_import
    UNION ALL SELECT count(*), sum(epoch) FROM library_upload
    UNION ALL SELECT count(*), sum(id) FROM distribution_grant
    UNION ALL SELECT count(*), 0 FROM library_holding WHERE ended_at IS NULL"""


class NoMail:
    """Where nobody is written to."""

    wave = 1
    environ: dict[str, str] = {"EMAIL_URL": "smtp://127.0.0.1:9"}

    def __init__(self, room: Path) -> None:
        self.log = room / "mails"

    def mails(self) -> list[dict[str, Any]]:
        return []


@dataclass(frozen=True)
class Size:
    libraries: int
    members: int
    rounds: int
    page: int
    files: int
    # How many of the places, and of what happens around them, strike in each round.
    places: int
    around: int


SHORT = Size(libraries=2_000, members=500, rounds=1, page=200, files=8, places=7, around=2)
FULL = Size(libraries=20_000, members=3_000, rounds=6, page=1_000, files=16, places=13, around=4)
SMALL = Size(libraries=1_000, members=300, rounds=1, page=100, files=4, places=0, around=0)


def plan(seed: str, size: Size) -> list[list[Fault]]:
    """For each round its faults: every place in turn, the worker there dies or stands still."""
    luck = random.Random(f"{seed}:work")
    deck, numbers = _shuffled(luck), iter(range(1, 1_000))
    rounds = []
    for _round in range(size.rounds):
        orders = []
        for place in [next(deck) for _place in range(size.places)]:
            what = luck.choice(("kill", "kill", "stall"))
            words = {"kill": "dies", "stall": "stands still"}[what]
            name = f"a worker {words} {place.replace('_', ' ')}"
            orders.append(
                Fault(next(numbers), name, "working", 0, "nothing", place, what, luck.randint(1, 2))
            )
        around = [
            Fault(next(numbers), name, "working", 0, "nothing") for name in luck.sample(AROUND, size.around)
        ]
        rounds.append(orders + around)
    return rounds


def _shuffled(luck: random.Random) -> Iterator[str]:
    while True:
        yield from luck.sample(PLACES, len(PLACES))


class Run:
    """One run: what people do in each round, and the ledger of it."""

    def __init__(self, scene: Scene, size: Size, seed: str) -> None:
        self.scene, self.size, self.stage = scene, size, scene.stage
        self.luck = random.Random(f"{seed}:people")
        self.ledger = WorkLedger(stays=scene.stage["stays"])
        self.media = scene.folder / "var" / "media"
        scene.moving = MOVING
        self._looked_at, self._behind = 0.0, True

    def round(self, number: int, faults: list[Fault], *, patience: float = 60) -> None:
        """All of it is asked for, while `faults` strike, and is done when this returns. Raises `StoodStill`."""
        scene, stage = self.scene, self.stage
        owner, group = stage["owner"], stage["groups"][number]
        around = [fault for fault in faults if not fault.order]
        for fault in faults:
            if fault.order:
                scene.begin(fault)
        # The orders are there before there is work: who passes a place first is struck.
        scene.tend()
        half, joiners = stage["half_given"][number], stage["for_joiners"][number]
        scene.act("publish", release=half, owner=owner)
        scene.act("take_back", release=stage["to_recall"][number], owner=owner)
        scene.act("publish", release=joiners, owner=owner)
        run = scene.act("bring_list", group=group, number=number, members=self.size.members, owner=owner)
        brought = Brought(number, self.size.members, group, run["import"], joiners)
        self.ledger.brought.append(brought)
        self.strike(around[::2])
        self.sign_up(number)
        self.upload(number)
        self.join(brought, "early")
        # Once a worker has begun to give it; until then they press again.
        scene.act("take_back", release=half, owner=owner)
        self.ledger.recalled += [stage["to_recall"][number], half]
        state = "SELECT state FROM groups_import WHERE id = %s"
        scene.until(
            lambda: scene.sql.one(state, brought.run) == "checked", "before applying", seconds=patience
        )
        self.join(brought, "between", listed=True)
        scene.act("apply_list", run=brought.run, owner=owner)
        self.strike(around[1::2])
        self.join(brought, "late")
        scene.until(self.nothing_behind, "to the end of a round", seconds=patience)

    def strike(self, faults: list[Fault]) -> None:
        for fault in faults:
            ends = time.monotonic() + self.luck.uniform(0.1, 1)
            self.scene.until(lambda ends=ends: time.monotonic() > ends, f"before {fault}")  # type: ignore[misc]
            self.scene.begin(fault)

    def sign_up(self, number: int) -> None:
        """Some of the crowd, to whom what is just being taken back was given."""
        strangers = max(1, self.size.libraries // 50)
        each = max(1, strangers // self.size.rounds)
        first = self.size.libraries - strangers + number * each
        self.scene.act("sign_up", addresses=[f"c{n}@example.net" for n in range(first, first + each)])

    def join(self, brought: Brought, when: str, *, listed: bool = False) -> None:
        """Five people come by hand, of whom some sign up at once; `listed`: who are in the file, too."""
        end = f"group{brought.number}.example"
        who = [f"{when}{n}@{end}" for n in range(5)]
        if listed:
            who += [f"m{brought.members + n}@{end}" for n in range(5)]
        self.scene.act("join", creator=self.stage["creator"], group=brought.group, addresses=who)
        self.scene.act("sign_up", addresses=who[::2])
        brought.by_hand += who

    def upload(self, number: int) -> None:
        files = [
            (f"file-{n}.bin", self.luck.randint(1, 200_000), self.luck.getrandbits(32))
            for n in range(self.size.files)
        ]
        # The same once more under another name, one of two parts, two that are not to be there.
        files += [(f"again-{files[0][0]}", *files[0][1:]), ("large.bin", 17 * MIB, number)]
        files += [("program-a.bin", 5_000, number), ("half-a.bin", 5_000, number)]
        who = {"creator": self.stage["creator"], "owner": self.stage["owner"]}
        said = self.scene.act("upload", title=f"Uploaded {number}", files=files, **who)
        self.ledger.files[said["bundle"]] = said["expected"]

    def nothing_behind(self) -> bool:
        if time.monotonic() > self._looked_at + 0.3:
            self._behind = bool(self.scene.sql.one(BEHIND))
            self._looked_at = time.monotonic()
        return not self._behind


def work(
    room: Path, postgres: Postgres, broker: Redis, *, seed: str, size: Size, rounds: list[list[Fault]]
) -> dict[str, Any]:
    """A whole run, and what the judge found of it."""
    with playing(room, postgres, broker, NoMail(room), **_options(size, seed)) as scene:
        run = Run(scene, size, seed)
        for number, faults in enumerate(rounds):
            say(f"round {number + 1} of {len(rounds)}")
            run.round(number, faults)
        # Whoever was stopped goes on, with all that it believes.
        scene.until(scene.all_awake, "until all are awake")
        scene.wake_the_held()
        scene.until(run.nothing_behind, "to the end")
        found = judge_work(scene.sql.rows, run.media, run.ledger)
        planned = [fault for faults in rounds for fault in faults]
        missed = sum(not fault.struck for fault in planned)
        return {"faults": len(scene.struck), "missed": missed, **found.as_json()}


# For each guard where to strike so that its absence shows, how, and the figure that tells it.
GUARDS: Final = {
    "recall_unswept": ("after_page_of_recall", "kill", "kept_after_recall"),
    "joiners_unswept": ("after_late_joiners", "kill", "joiners_without_grant"),
    "bytes_unswept": ("after_placing_a_copy", "kill", "bytes_left"),
    "import_unfenced": ("after_page_of_import", "hold", "wrong_counts"),
}


def sabotaged_work(room: Path, postgres: Postgres, broker: Redis, *, guard: str, seed: str) -> dict[str, Any]:
    """A small run without `guard`. It holds if the judge says that the run does not, by the figure that tells it."""
    place, what, figure = GUARDS[guard]
    faults = [Fault(1, f"a worker {what}s {place}", "working", 0, "nothing", place, what)]
    with playing(room, postgres, broker, NoMail(room), sabotage=guard, **_options(SMALL, seed)) as scene:
        run = Run(scene, SMALL, seed)
        try:
            run.round(0, faults, patience=15)
            scene.wake_the_held()
        except StoodStill as stood:
            say(str(stood))
        found = judge_work(scene.sql.rows, run.media, run.ledger)
        caught = getattr(found, figure) > 0
        if guard == "bytes_unswept":
            # A run that only stood still too early has bytes left as well: it has to be these, and no others.
            caught = left_by_no_sweep(scene.sql.rows, found)
    return {"caught": caught, figure: getattr(found, figure), "why": found.why[:3]}


def _options(size: Size, seed: str) -> dict[str, Any]:
    return {
        "members": size.libraries,
        "seed": seed,
        "stage": ("tests.chaos.work_stage", size.libraries, size.members, size.rounds),
        "CHAOS_PAGE": str(size.page),
        "CHAOS_ABANDONED_AFTER": str(ABANDONED_AFTER),
    }

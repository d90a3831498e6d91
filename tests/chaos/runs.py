"""The parts of `make chaos`: the big runs, and for each guard a small one without it, which the judge has to fail."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos import faults, work
from tests.chaos.addresses import DOUBTFUL, SIGNING, http_faults, smtp_faults
from tests.chaos.faults import Fault
from tests.chaos.ground import Postgres, Redis
from tests.chaos.judge import in_doubt, judge
from tests.chaos.scene import LEASE, Scene, StoodStill, playing, say
from tests.http_provider import HttpProvider
from tests.recorder import Recorder

# A relay hangs up on who is silent for longer; shorter than the time after which a doubt may be settled.
IDLE = 3.0
# What of a short run is looked at unless others are asked for.
SHORT = ("smtp", "work", "mark_after")
Part = Callable[["Ground"], dict[str, Any]]


@dataclass
class Ground:
    folder: Path
    postgres: Postgres
    broker: Redis
    runs: int = 0

    def stop(self) -> None:
        self.broker.stop()
        self.postgres.stop()

    def room(self) -> Path:
        self.runs += 1
        room = self.folder / f"run-{self.runs}"
        room.mkdir()
        self.broker.flush()
        return room


class Relay:
    """The recording SMTP server of one run."""

    def __init__(self, room: Path, *, faulty: bool = True, patient: bool = False) -> None:
        """`patient`: it waits for whoever is silent and is sent little at a time, so a late hand finds a way, and work."""
        self.wave = 2 if patient else 8
        (room / "orders").mkdir()
        self.recorder = Recorder(
            room, faults=smtp_faults() if faulty else [], idle=60 if patient else IDLE, orders=room / "orders"
        )
        self.log = self.recorder.log
        self.environ: dict[str, str] = {}

    def __enter__(self) -> "Relay":
        self.recorder.__enter__()
        self.environ = {
            "EMAIL_URL": f"smtp://127.0.0.1:{self.recorder.port}",
        }
        return self

    def __exit__(self, *error: Any) -> None:
        self.recorder.__exit__(*error)

    def mails(self) -> list[dict[str, Any]]:
        return self.recorder.mails()


class Service:
    """The HTTP provider of one run, as Resend: calls of many mails, each under a key."""

    wave = 100

    def __init__(self, room: Path) -> None:
        (room / "orders").mkdir()
        self.provider = HttpProvider(room, faults=http_faults())
        self.log = self.provider.log
        self.environ: dict[str, str] = {}

    def __enter__(self) -> "Service":
        self.provider.__enter__()
        self.environ = {
            "EMAIL_BACKEND": "anymail.backends.resend.EmailBackend",
            "ANYMAIL_RESEND_API_KEY": "re_chaos",
            "ANYMAIL_RESEND_API_URL": self.provider.url,
            "ANYMAIL_RESEND_SIGNING_SECRET": f"whsec_{SIGNING}",
        }
        return self

    def __exit__(self, *error: Any) -> None:
        self.provider.__exit__(*error)

    def mails(self) -> list[dict[str, Any]]:
        return self.provider.mails()


def parts(seed: str, recipients: int, *, short: bool) -> dict[str, Part]:
    """By name; each returns what the judge found."""
    number = 36 if short else 120
    found: dict[str, Part] = {
        "smtp": partial(smtp, seed=seed, members=recipients, number=number),
        # As many faults on a quarter of the mails would be nothing else than faults.
        "http": partial(http, seed=seed, members=recipients // 4, number=max(40, number // 3)),
    }
    found["several"] = partial(several, seed=seed)
    found["restored"] = partial(restored, seed=seed)
    found["work"] = partial(other_work, seed=seed, size=work.SHORT if short else work.FULL)
    for guard in GUARDS:
        found[guard] = partial(sabotaged, guard=guard, seed=seed)
    for guard in work.GUARDS:
        found[guard] = partial(sabotaged_work, guard=guard, seed=seed)
    return found


def summary(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One line of all: the worst of each figure, and whether every part came out as it has to."""
    guards = {*GUARDS, *work.GUARDS}
    big = [result for name, result in results.items() if name not in guards]
    line: dict[str, Any] = {"faults": sum(result["faults"] for result in big)}
    for result in big:
        for name, value in result.items():
            if isinstance(value, int) and name not in {"faults", "holds", "seconds"}:
                line[name] = line.get(name, 0) + value
    line["sabotage_caught"] = {name: result["caught"] for name, result in results.items() if name in guards}
    line["seconds"] = sum(result["seconds"] for result in results.values())
    line["holds"] = all(result["holds"] for result in big) and all(line["sabotage_caught"].values())
    return line


# --- the big runs -----------------------------------------------------------------------------------------


def smtp(ground: Ground, *, seed: str, members: int, number: int) -> dict[str, Any]:
    """Over SMTP, with no evidence but the relay's log: at the end that settles every doubt."""
    with Relay(ground.room()) as relay:
        return big(ground, relay, settle_from_the_log, faults.plan(seed, number), members=members, seed=seed)


def http(ground: Ground, *, seed: str, members: int, number: int) -> dict[str, Any]:
    """Over a provider that takes a call once for each key: workers settle every doubt by making the call again."""
    planned = faults.plan(f"{seed}:http", number, over_http=True)
    with Service(ground.room()) as service:
        return big(ground, service, wait_for_replays, planned, members=members, seed=seed)


def big(
    ground: Ground,
    outside: Relay | Service,
    settle: Callable[[Scene], None],
    planned: list[Fault],
    *,
    members: int,
    seed: str,
) -> dict[str, Any]:
    room = outside.log.parent
    with playing(room, ground.postgres, ground.broker, outside, members=members, seed=seed) as scene:
        # Each of these addresses is a fault of its own: what its mail system does leaves its wave in doubt.
        few = 2 * len(DOUBTFUL)
        scene.ledger.doubts += few * (1 if isinstance(outside, Relay) else outside.wave)
        shot = begin(scene, by_shot_server=isinstance(outside, Relay))
        begun = time.monotonic()
        scene.strike(planned)
        scene.until(scene.done, "to the end")
        say(f"done after {time.monotonic() - begun:.0f} s: {scene.where()}")
        doubts = in_doubt(scene.sql.rows)
        settle(scene)
        scene.wake_the_held()
        scene.until(scene.done, "after the last woke up")
        found = judge(scene.sql.rows, outside.mails(), scene.ledger, unknown_before=doubts)
        missed = [fault for fault in planned if not fault.struck]
        return {"faults": len(scene.struck) + few + shot, "missed": len(missed), **found.as_json()}


def begin(scene: Scene, *, by_shot_server: bool) -> int:
    """Send is pressed by two people at once, each twice; perhaps after a web server was shot right after the commit.
    Returns how many faults that were.
    """
    who = {"message": scene.ledger.messages[0], "staff": scene.stage["staff"]}
    if by_shot_server:
        scene.act("confirm_and_die", **who)
    said = scene.act("confirm", **who, clicks=2)["said"]
    say(f"Send was pressed: {said}")
    if said.count("confirmed") != (0 if by_shot_server else 2):
        raise StoodStill(f"two people pressed twice, and heard {said}")
    return int(by_shot_server)


def settle_from_the_log(scene: Scene) -> None:
    """The relay's log says of every doubt what it was; what was not taken goes out then."""
    ends = time.monotonic() + 120
    while in_doubt(scene.sql.rows):
        log, grace = str(scene.outside.log), str(LEASE + 2)
        said = scene.manage("sending", "settle", "--log", log, "--complete", "--grace", grace)
        say(f"settled: {' '.join(said.split())}")
        scene.until(scene.done, "after settling")
        if time.monotonic() > ends:
            raise StoodStill("doubts that the log does not settle")
        time.sleep(1)


def wait_for_replays(scene: Scene) -> None:
    """It settles by itself."""
    scene.until(lambda: not in_doubt(scene.sql.rows), "settling by replay", seconds=90)
    scene.until(scene.done, "after settling")


# --- small ones -------------------------------------------------------------------------------------------

CAP = 3


def several(ground: Ground, *, seed: str, sabotage: str = "") -> dict[str, Any]:
    """Five messages to the same people, one after another, one of them cancelled under way, Redis emptied in between:
    nobody gets more than the cap.
    """
    room = ground.room()
    with (
        Relay(room, faulty=False) as relay,
        playing(
            room,
            ground.postgres,
            ground.broker,
            relay,
            members=SMALL,
            messages=5,
            seed=seed,
            sabotage=sabotage,
        ) as scene,
    ):
        scene.ledger.cap = CAP
        messages = scene.ledger.messages
        for number, message in enumerate(messages):
            say(f"message {number + 1} of {len(messages)}")
            sent = scene.mails()
            strike = Fault(
                number + 1, "a worker dies after leasing", "sending", 0, "a worker", "after_leasing", "kill"
            )
            scene.strike([strike])
            scene.act("confirm", message=message, staff=scene.stage["staff"], clicks=1)
            if number == 1:
                scene.until(lambda sent=sent: scene.mails() > sent + SMALL // 3, "half of it")  # type: ignore[misc]
                who = {"message": message, "staff": scene.stage["staff"]}
                scene.ledger.cancelled[message] = scene.act("cancel", **who)["at"]
            scene.until(lambda message=message: scene.over(message), f"message {number + 1}")  # type: ignore[misc]
            ground.broker.flush()
        # Whoever was cancelled in the middle of a wave says so now.
        time.sleep(LEASE)
        doubts = in_doubt(scene.sql.rows)
        settle_from_the_log(scene)
        found = judge(scene.sql.rows, relay.mails(), scene.ledger, unknown_before=doubts)
        return {"faults": len(scene.struck) + len(messages), "missed": 0, **found.as_json()}


def restored(ground: Ground, *, seed: str) -> dict[str, Any]:
    """The database is put back to what it was in the middle of a send: nothing goes until an operator says so, and
    then nothing twice.
    """
    room = ground.room()
    with (
        Relay(room, faulty=False) as relay,
        playing(room, ground.postgres, ground.broker, relay, members=SMALL, seed=seed) as scene,
    ):
        scene.act("confirm", message=scene.ledger.messages[0], staff=scene.stage["staff"], clicks=1)
        scene.until(lambda: scene.progress("sending") > 0.3, "a third of it")
        ground.postgres.back_up(scene.name, room / "backup")
        say(f"backed up after {scene.mails()} mails")
        scene.until(scene.done, "to the end")
        begun = time.time()
        scene.restore(room / "backup")
        ends = time.monotonic() + 15
        scene.until(lambda: time.monotonic() > ends, "what a restored database does")
        scene.ledger.pauses.append((begun, time.time()))
        say(f"unlocked: {' '.join(scene.manage('sending', 'unlock', '--yes').split())}")
        scene.until(scene.done, "to the end, once more")
        # What may have been sent since the backup is in doubt; how much that is has nothing to do with connections.
        restored = in_doubt(scene.sql.rows)
        settle_from_the_log(scene)
        found = judge(scene.sql.rows, relay.mails(), scene.ledger, unknown_before=0)
        return {"faults": 1, "missed": 0, "in_doubt_by_restoring": restored, **found.as_json()}


def other_work(ground: Ground, *, seed: str, size: work.Size) -> dict[str, Any]:
    """Recalls, imports, uploads and late joiners, all at once."""
    planned = work.plan(seed, size)
    return work.work(ground.room(), ground.postgres, ground.broker, seed=seed, size=size, rounds=planned)


# --- each guard taken out ---------------------------------------------------------------------------------

# Where to strike so that its absence shows.
GUARDS: dict[str, tuple[str, str]] = {
    "mark_before": ("after_intent", "kill"),
    "mark_after": ("taken", "kill"),
    "no_fence": ("after_answer", "hold"),
    "blind_retry": ("taken", "kill"),
    "cap_in_cache": ("", ""),
}
SMALL = 3_000


def sabotaged(ground: Ground, *, guard: str, seed: str) -> dict[str, Any]:
    """A run without `guard`. It holds if the judge says that the run does not."""
    if guard == "cap_in_cache":
        found = several(ground, seed=seed, sabotage=guard)
        return {
            "caught": found["over_the_cap"] > 0,
            "over_the_cap": found["over_the_cap"],
            "why": found["why"],
        }
    place, what = GUARDS[guard]
    planned = [
        Fault(number, f"a worker {what}s {place}", "sending", 0.1 * number, "a worker", place, what, 1)
        for number in range(1, 2 if what == "hold" else 6)
    ]
    room = ground.room()
    with (
        Relay(room, faulty=False, patient=guard == "no_fence") as relay,
        playing(
            room,
            ground.postgres,
            ground.broker,
            relay,
            members=2 * SMALL if what == "hold" else SMALL,
            sabotage=guard,
            seed=seed,
            workers=2,
        ) as scene,
    ):
        scene.act("confirm", message=scene.ledger.messages[0], staff=scene.stage["staff"], clicks=1)
        scene.strike(planned)
        # Whoever stands still is woken when others have done its work, and there is more to do.
        scene.until(lambda: scene.progress("sending") > 0.7 or scene.done(), "most of it")
        scene.wake_the_held()
        try:
            scene.until(
                lambda: scene.done() and not any(worker.stalled for worker in scene.workers),
                "to the end",
                seconds=20,
            )
        except StoodStill as stood:
            say(str(stood))
        # Whoever was stopped has had the time to go on.
        time.sleep(LEASE)
        doubts = in_doubt(scene.sql.rows)
        found = judge(scene.sql.rows, relay.mails(), scene.ledger, unknown_before=doubts)
    wrong = found.double_mails + found.lost_mails
    return {
        "caught": bool(wrong),
        "double_mails": found.double_mails,
        "lost_mails": found.lost_mails,
        "why": found.why,
    }


def sabotaged_work(ground: Ground, *, guard: str, seed: str) -> dict[str, Any]:
    return work.sabotaged_work(ground.room(), ground.postgres, ground.broker, guard=guard, seed=seed)

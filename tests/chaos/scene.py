"""One run: its servers, its workers, its people, and the faults that strike them in their order."""

import contextlib
import heapq
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.faults import Fault
from tests.chaos.ground import Cable, Postgres, Redis, Sql
from tests.chaos.judge import Ledger, in_doubt

HOUSE = Path(__file__).resolve().parents[2]
WORKERS = 3
LEASE = 5.0
# A stalled worker stands still until others have taken its work over.
STALL = LEASE + 2


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)  # noqa: T201


class MailSystem(Protocol):
    """What takes the mails, in a process that is never killed."""

    environ: dict[str, str]
    log: Path
    # How many mails a worker hands over at a time.
    wave: int

    def mails(self) -> list[dict[str, Any]]: ...


@dataclass
class Worker:
    process: "subprocess.Popen[bytes]"
    number: int
    begun_at: float = field(default_factory=time.monotonic)
    stalled: bool = False


class Scene:
    """A stage that was set, with workers at work on it."""

    def __init__(
        self,
        folder: Path,
        postgres: Postgres,
        broker: Redis,
        outside: MailSystem,
        *,
        members: int,
        messages: int = 1,
        sabotage: str = "",
        seed: str = "",
        workers: int = WORKERS,
        stage: Sequence[object] = (),
        **environ: str,
    ) -> None:
        self.folder, self.postgres, self.broker, self.outside = folder, postgres, broker, outside
        self.members, self.luck = members, random.Random(f"{seed}:scene")
        self.orders = folder / "orders"
        self.orders.mkdir(exist_ok=True)
        self.name = f"run_{os.getpid()}_{time.monotonic_ns()}"
        sql = Sql(postgres.url("postgres"))
        sql.rows(f"CREATE DATABASE {self.name}")
        sql.close()
        self.sql = Sql(postgres.url(self.name))
        # What changes as long as a run goes on, beside its mails.
        self.moving = "SELECT cursor FROM distribution_release UNION ALL SELECT cursor FROM messaging_message"
        self.cable = Cable(postgres.port)
        self.environ = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": postgres.url(self.name),
            "REDIS_URL": broker.url,
            "VAR_DIR": str(folder / "var"),
            "SITE_URL": "https://largesse.example",
            "SWEEP_SECONDS": "1",
            "SEND_LEASE_SECONDS": str(LEASE),
            "SMTP_CONNECTIONS": str(outside.wave),
            "CEILING_WEEK": "20",
            "CEILING_MONTH": "20",
            "CHAOS_ORDERS": str(self.orders),
            "CHAOS_PAGE": str(max(100, min(10_000, members // 10))),
            "CHAOS_SABOTAGE": sabotage,
            "LOG_LEVEL": "ERROR",
            **outside.environ,
            **environ,
        }
        module, *numbers = stage or ("tests.chaos.stage", members, messages)
        self.stage = self._program("-m", str(module), *map(str, numbers))
        self.ledger = Ledger(
            messages=self.stage.get("messages", []),
            version=self.stage.get("version", 0),
            before={
                reason: self.stage.get(people, 0)
                for reason, people in (
                    ("suppressed", "suppressed"),
                    ("no_mail", "no_mail"),
                    ("holds_all", "holding"),
                )
            },
        )
        self.struck: list[Fault] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._held: list[Worker] = []
        self._ordered: deque[Fault] = deque()
        self._read = self._mails = 0
        self._beats: list[subprocess.Popen[bytes]] = []
        self._staff: subprocess.Popen[str] | None = None
        self._log = (folder / "workers.log").open("ab")
        self.workers: list[Worker] = []
        self._beat()
        for number in range(workers):
            self._hire(number)

    def close(self) -> None:
        self.let_all_go()
        self.no_beat()
        if self._staff:
            self._staff.kill()
            self._staff.communicate()
        self.lost_answers = self.cable.stop()
        self.sql.close()
        self._log.close()

    # --- looking ----------------------------------------------------------------------------------------

    def mails(self) -> int:
        """How many were taken so far."""
        if self.outside.log.exists():
            with self.outside.log.open("rb") as log:
                log.seek(self._read)
                fresh = log.read()
            self._read += len(fresh)
            self._mails += fresh.count(b"\n")
        return self._mails

    def progress(self, phase: str) -> float:
        if phase == "sending":
            return self.mails() / self.members / len(self.ledger.messages)
        # Once is all: later phases are told from earlier ones.
        state = self.sql.one("SELECT state FROM distribution_release ORDER BY id LIMIT 1")
        if phase == "giving":
            return 1.0 if state == "published" else self._part("cursor", "distribution_release")
        if self.sql.one("SELECT planned_at IS NOT NULL FROM messaging_message ORDER BY id LIMIT 1"):
            return 1.0
        return self._part("cursor", "messaging_message") if state == "published" else 0.0

    def done(self) -> bool:
        return not self.sql.one(
            "SELECT count(*) FROM messaging_message WHERE state NOT IN ('done', 'cancelled') AND id = ANY(%s)",
            self.ledger.messages,
        )

    def over(self, message: int) -> bool:
        state = self.sql.one("SELECT state FROM messaging_message WHERE id = %s", message)
        return state in ("done", "cancelled")

    def _part(self, column: str, table: str) -> float:
        return float(
            self.sql.one(
                f"""SELECT coalesce((SELECT {column} FROM {table} ORDER BY id LIMIT 1)
                - min(id), 0)::float / count(*) FROM groups_contact"""
            )
        )

    # --- waiting, and what goes on meanwhile ------------------------------------------------------------

    def until(self, true: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
        """Tends the run until `true`; gives up when nothing has moved for `seconds`."""
        moved_at, looked_at, stood = time.monotonic(), 0.0, None
        while not true():
            self.tend()
            if time.monotonic() > looked_at + 1:
                looked_at, stands = time.monotonic(), self._stands()
                if stands != stood:
                    moved_at, stood = looked_at, stands
            if time.monotonic() - moved_at > seconds:
                raise StoodStill(f"{what}: nothing moved for {seconds:.0f} s, {self.where()}")
            time.sleep(0.03)

    def _stands(self) -> tuple[object, ...]:
        cursors = self.sql.rows(self.moving)
        return (self.mails(), len(self.struck), in_doubt(self.sql.rows), *cursors)

    def where(self) -> str:
        states = self.sql.rows("SELECT state, count(*) FROM messaging_delivery GROUP BY state")
        messages = self.sql.rows("SELECT id, state, due_at, waits_because FROM messaging_message")
        chunks = self.sql.rows("SELECT state, count(*) FROM messaging_chunk GROUP BY state")
        waits = self.sql.rows(
            """SELECT left(waits.query, 80), holds.state, now() - holds.state_change, left(holds.query, 80)
            FROM pg_stat_activity waits, unnest(pg_blocking_pids(waits.pid)) AS blocking, pg_stat_activity holds
            WHERE holds.pid = blocking"""
        )
        return f"deliveries {states}, messages {messages}, chunks {chunks}, waiting for locks {waits}"

    def tend(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()
        self._see_to_orders()
        for worker in self.workers:
            if (code := worker.process.poll()) is not None:
                if code not in (-signal.SIGKILL, 0):
                    say(f"    a worker went by itself, with {code}")
                self.workers.remove(worker)
                self.after(self.luck.uniform(0, 0.5), lambda number=worker.number: self._hire(number))
                break
            if not worker.stalled and _stands_still(worker.process.pid):
                worker.stalled = True
                if any(
                    mine.read_text().startswith("hold")
                    for mine in self.orders.glob(f"*.{worker.process.pid}")
                ):
                    self._held.append(worker)
                    continue
                self.after(STALL, lambda worker=worker: self._wake(worker))

    def after(self, seconds: float, what: Callable[[], Any]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._count), what))

    def wake_the_held(self) -> None:
        """Whoever stood still until now goes on, with all that it believes; it has the time to do harm."""
        held, self._held = self._held, []
        for worker in held:
            self._wake(worker)
        if held:
            ends = time.monotonic() + 5
            self.until(lambda: time.monotonic() > ends, "after the last woke up")

    def _wake(self, worker: Worker) -> None:
        worker.stalled = False
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(signal.SIGCONT)

    def _see_to_orders(self) -> None:
        """One order a place at a time; whoever takes it is seen by the file it leaves."""
        for fault in list(self._ordered):
            place = self.orders / fault.order
            if fault.struck:
                continue
            if getattr(fault, "given", False):
                if not place.exists():
                    self._note(fault)
                    self._ordered.remove(fault)
            elif not place.exists():
                draft = self.orders / f".{fault.order}"
                draft.write_text(f"{fault.what} {fault.passage}")
                draft.rename(place)
                fault.given = True  # type: ignore[attr-defined]

    def _note(self, fault: Fault) -> None:
        fault.struck = True
        self.struck.append(fault)
        wave = self.outside.wave
        self.ledger.doubts += {"nothing": 0, "a worker": wave, "all workers": wave * WORKERS}[fault.reach]
        say(f"  {fault}")

    # --- processes --------------------------------------------------------------------------------------

    def _program(self, *arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=HOUSE,
            env=self.environ,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            check=True,
            text=True,
        )
        return json.loads(done.stdout.splitlines()[-1])

    def _hire(self, number: int) -> None:
        # The first one's way to the database is the bad one.
        environ = self.environ
        if number == 0:
            environ = {**environ, "DATABASE_URL": self.postgres.url(self.name, self.cable.port)}
        command = (
            "-m celery -A tests.chaos.worker -q worker -Q people,mail,files --concurrency 4 --loglevel error"
        )
        quiet = "--without-gossip --without-mingle --without-heartbeat"
        name = f"-n w{number}-{next(self._count)}@%h"
        process = subprocess.Popen(
            [sys.executable, *command.split(), *quiet.split(), *name.split()],
            cwd=HOUSE,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self.workers.append(Worker(process, number))

    def _beat(self) -> None:
        number = next(self._count)
        command = f"-m celery -A config -q beat --loglevel error -s {self.folder}/beat-{number}"
        self._beats.append(
            subprocess.Popen(
                [sys.executable, *command.split(), f"--pidfile={self.folder}/beat-{number}.pid"],
                cwd=HOUSE,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )
        )

    def no_beat(self) -> None:
        while self._beats:
            beat = self._beats.pop()
            beat.kill()
            beat.wait()

    def act(self, act: str, **what: Any) -> dict[str, Any]:
        """What a person does; if the database is away they press again."""
        ends = time.monotonic() + 60
        while True:
            if self._staff is None:
                self._staff = subprocess.Popen(
                    [sys.executable, "-m", "tests.chaos.staff"],
                    cwd=HOUSE,
                    env=self.environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    text=True,
                )
            assert self._staff.stdin
            assert self._staff.stdout
            self._staff.stdin.write(json.dumps({"act": act, **what}) + "\n")
            self._staff.stdin.flush()
            line = self._staff.stdout.readline()
            if not line:
                # It was shot, as ordered.
                self._staff.communicate()
                self._staff = None
                return {"at": time.time()}
            answer: dict[str, Any] = json.loads(line)
            if "error" not in answer:
                return answer
            if time.monotonic() > ends:
                raise StoodStill(f"{act}: {answer['error']}")
            time.sleep(0.3)

    def let_all_go(self) -> None:
        """No worker is there any more."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.wait()
        self.workers.clear()
        self._later.clear()

    def restore(self, backup: Path) -> None:
        """Another database from `backup` takes the place of the one there is, and workers come to it."""
        self.let_all_go()
        self.no_beat()
        self.sql.close()
        self.name += "_restored"
        self.postgres.restore(backup, self.name)
        self.environ["DATABASE_URL"] = self.postgres.url(self.name)
        self.sql = Sql(self.environ["DATABASE_URL"])
        self._beat()
        for number in range(WORKERS):
            self._hire(number)

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=HOUSE,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StoodStill(f"manage.py {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    # --- faults -----------------------------------------------------------------------------------------

    def strike(self, faults: list[Fault]) -> None:
        """Each in its turn; returns when the last has struck or been ordered."""
        for fault in faults:
            self.until(
                lambda fault=fault: (
                    self.progress(fault.phase)
                    >= (0 if fault.order and fault.phase != "sending" else fault.at)
                    or self.done()
                ),
                f"before {fault}",
            )
            self.begin(fault)

    def begin(self, fault: Fault) -> None:
        """It strikes now, or is ordered: whoever passes its place next is struck."""
        if fault.order:
            self._ordered.append(fault)
        elif STRIKES[fault.name](self) is not False:
            self._note(fault)

    def all_awake(self) -> bool:
        return not any(worker.stalled or _stands_still(worker.process.pid) for worker in self.workers)

    def a_worker(self) -> Worker | None:
        awake = [worker for worker in self.workers if not worker.stalled and worker.process.poll() is None]
        return self.luck.choice(awake) if awake else None

    def signal_one(self, signum: int) -> None:
        if worker := self.a_worker():
            worker.process.send_signal(signum)

    def unwilling(self, act: str, why: str) -> bool:
        """Five people whose turn is far off do not want it any more. False if there are none left."""
        query = """SELECT contact_id, address_key, chunk.epoch FROM messaging_delivery delivery
            JOIN messaging_chunk chunk ON chunk.message_id = delivery.message_id
                AND contact_id > after AND contact_id <= until
            WHERE delivery.message_id = %s AND address_key LIKE 'm%%' AND ({})
            ORDER BY contact_id DESC LIMIT 5"""
        message = self.ledger.messages[-1]
        # Only unsubscribing reaches into a chunk that somebody has opened.
        waiting = "delivery.state = 'planned'"
        if act != "unsubscribe":
            waiting += " AND chunk.lease_until IS NULL"
        people = self.sql.rows(query.format(waiting), message)
        answer = self.act(act, contacts=[contact for contact, _address, _epoch in people])
        if act != "unsubscribe":
            still = set(
                self.sql.rows(query.format("contact_id = ANY(%s)"), message, [one[0] for one in people])
            )
            people = [one for one in people if one in still]
        self.ledger.unwilling += [(address, answer["at"], why) for _contact, address, _epoch in people]
        return bool(people)

    def post_events(self) -> bool:
        """Of mails that were taken: what the provider says of ten is so, what is forged of ten others is not."""
        some = self.sql.rows(
            """SELECT id, address_key FROM messaging_delivery
            WHERE message_id = %s AND state = 'accepted' AND address_key LIKE 'm%%' ORDER BY random() LIMIT 20""",
            self.ledger.messages[-1],
        )
        true, forged = some[:10], some[10:]
        said = self.act("post_events", delivered=[one[0] for one in true], forged=[one[0] for one in forged])
        self.ledger.delivered.update(address for _delivery, address in true)
        self.ledger.forged.update(address for _delivery, address in forged)
        say(f"    the web server said {said['said']}")
        return bool(some)

    def pause_for_a_while(self) -> None:
        who = {"message": self.ledger.messages[-1], "staff": self.stage["staff"]}
        begun = self.act("pause", **who)["at"]
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            self.tend()
            time.sleep(0.03)
        ended = time.time()
        self.act("resume", **who)
        self.ledger.pauses.append((begun, ended))

    def redis_away(self) -> None:
        self.broker.stop()
        self.after(3, self.broker.start)

    def redis_full(self) -> None:
        self.broker.fill()
        self.after(3, self.broker.empty)

    def two_beats(self) -> None:
        if len(self._beats) < 2:
            self._beat()

    def one_beat_less(self) -> None:
        self.no_beat()
        self.after(6, self._beat)

    def end_connections(self) -> None:
        self.sql.rows(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()"""
        )


class StoodStill(Exception):
    """The run does not go on."""


STRIKES: dict[str, Callable[[Scene], Any]] = {
    "a worker is shot anywhere": lambda scene: scene.signal_one(signal.SIGKILL),
    "a worker is stopped anywhere": lambda scene: scene.signal_one(signal.SIGSTOP),
    "a worker is asked to go": lambda scene: scene.signal_one(signal.SIGTERM),
    "PostgreSQL ends every connection": Scene.end_connections,
    "PostgreSQL crashes": lambda scene: scene.postgres.crash(),
    "PostgreSQL commits and nobody hears": lambda scene: scene.cable.lose_an_answer(),
    "the cable is cut inside a commit": lambda scene: scene.cable.cut(),
    "Redis is emptied": lambda scene: scene.broker.flush(),
    "Redis is away": Scene.redis_away,
    "Redis has no memory left": Scene.redis_full,
    "two beats": Scene.two_beats,
    "no beat": Scene.one_beat_less,
    "the message is paused and resumed": Scene.pause_for_a_while,
    "somebody unsubscribes": lambda scene: scene.unwilling("unsubscribe", "unsubscribed"),
    "somebody leaves the group": lambda scene: scene.unwilling("leave", "left"),
    "an address bounces elsewhere": lambda scene: scene.unwilling("bounce", "bounced"),
    "the provider's events come twice, shuffled and forged": Scene.post_events,
    "the bundle gets a newer version": lambda scene: scene.act("edit_bundle", version=scene.stage["version"]),
}


def _stands_still(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def playing(*arguments: Any, **options: Any) -> Iterator[Scene]:
    with ExitStack() as ends:
        scene = Scene(*arguments, **options)
        ends.callback(scene.close)
        yield scene

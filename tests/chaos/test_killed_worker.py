"""A worker shot in the middle of everything, and Redis emptied: who was promised what has it, once.

PostgreSQL, Redis and Celery are real, the worker is a process of its own. The judge reads the recording server's
log and the tables by plain SQL; it imports nothing of the application.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from tests.recorder import Recorder

pytestmark = pytest.mark.chaos

HOUSE = Path(__file__).resolve().parents[2]
MEMBERS = 20_000
SERVER = os.environ.get("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/14")
# The mail to this address is taken, but the worker never hears of it: the one moment that no order of writes can close.
UNHEARD = "m15000@example.net"
# Widens the moment in which a page is written but not committed, so that a shot can fall into it.
SLOW = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END';
CREATE TRIGGER linger_grant AFTER INSERT ON distribution_grant EXECUTE FUNCTION linger();
CREATE TRIGGER linger_delivery AFTER INSERT ON messaging_delivery EXECUTE FUNCTION linger();
"""


class Scene:
    """The database, the broker and the worker of one run."""

    def __init__(
        self, environ: dict[str, str], database: str, broker: "redis.Redis", recorder: Recorder
    ) -> None:
        self.environ, self.broker, self.recorder = environ, broker, recorder
        self.sql = psycopg.connect(database, autocommit=True)
        self.shots: list[str] = []
        self._lines: list[str] = []
        self._read = 0
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "config",
            "-q",
            "worker",
            "--beat",
            "-Q",
            "people,mail,files",
        ]
        self.worker = subprocess.Popen(
            [*command, "--concurrency", "4", "--loglevel", "error"],
            cwd=HOUSE,
            env=self.environ,
            start_new_session=True,
        )

    def shoot(self, when: str) -> None:
        os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()
        self.shots.append(when)

    def one(self, query: str) -> Any:
        row = self.sql.execute(query).fetchone()
        assert row is not None
        return row[0]

    def until(self, true: Callable[[], bool], *, seconds: float = 90) -> None:
        ends = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < ends, f"nothing came of it after {self.shots}"
            assert self.worker.poll() is None, "the worker went by itself"
            time.sleep(0.02)

    def lines(self) -> list[str]:
        """The recorder's lines so far; each is read once, so that watching takes no time from the work."""
        if self.recorder.log.exists():
            with self.recorder.log.open() as log:
                log.seek(self._read)
                fresh = log.read()
            whole = fresh[: fresh.rfind("\n") + 1]
            self._read += len(whole)
            self._lines += whole.splitlines()
        return self._lines

    def mails(self) -> int:
        return len(self.lines())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    name = f"largesse_chaos_{os.getpid()}"
    address = urlunsplit(urlsplit(SERVER)._replace(path=f"/{name}"))
    with psycopg.connect(urlunsplit(urlsplit(SERVER)._replace(path="/postgres")), autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name}")
        server.execute(f"CREATE DATABASE {name}")
        broker = redis.Redis.from_url(REDIS)
        broker.flushdb()
        try:
            with Recorder(tmp_path, faults=[f"{UNHEARD}!=taken:silence"]) as recorder:
                yield from play(address, broker, recorder, tmp_path)
        finally:
            broker.flushdb()
            broker.close()
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def play(address: str, broker: "redis.Redis", recorder: Recorder, folder: Path) -> Iterator[Scene]:
    environ = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": address,
        "REDIS_URL": REDIS,
        "EMAIL_URL": f"smtp://127.0.0.1:{recorder.port}",
        "VAR_DIR": str(folder / "var"),
        "SITE_URL": "https://largesse.example",
        "SWEEP_SECONDS": "1",
        "SEND_LEASE_SECONDS": "4",
    }
    stage = [sys.executable, "-m", "tests.chaos.stage", str(MEMBERS)]
    subprocess.run(stage, cwd=HOUSE, env=environ, check=True)
    with psycopg.connect(address, autocommit=True) as made:
        made.execute(SLOW)
    scene = Scene(environ, address, broker, recorder)
    try:
        yield scene
    finally:
        if scene.worker.poll() is None:
            os.killpg(scene.worker.pid, signal.SIGKILL)
            scene.worker.wait()
        scene.sql.close()


def test_nobody_is_left_out_and_nobody_is_written_to_twice(scene: Scene) -> None:
    grants = "SELECT count(*) FROM distribution_grant"
    planned = "SELECT count(*) FROM messaging_delivery"

    scene.until(lambda: 0 < scene.one(grants) < MEMBERS)
    scene.shoot("while giving")
    scene.broker.flushdb()
    scene.start()

    scene.until(lambda: 0 < scene.one(planned) < MEMBERS)
    scene.shoot("while planning")
    scene.start()

    scene.until(lambda: scene.mails() > 0)
    for part in (0.1, 0.25, 0.4):
        scene.until(lambda part=part: scene.mails() > part * MEMBERS)  # type: ignore[misc]
        scene.shoot(f"while sending, {scene.mails()} mails out")
        scene.start()
    scene.broker.flushdb()
    scene.until(lambda: any(UNHEARD in line for line in scene.lines()[-500:]))
    scene.shoot("after a mail was taken, before that was said")
    scene.start()

    # Emptied under a running worker: what was to be woken is found by the next sweep.
    scene.until(lambda: scene.mails() > 0.9 * MEMBERS)
    scene.broker.flushdb()
    scene.until(lambda: scene.one("SELECT state FROM messaging_message") == "done")

    print(json.dumps(judge(scene)))  # noqa: T201


def judge(scene: Scene) -> dict[str, Any]:
    """What is true of the run, by the recorder's log and plain SQL alone. Fails if a promise is broken."""
    once = scene.one(
        """SELECT count(*) FROM (
            SELECT member.contact_id FROM groups_membership member
            LEFT JOIN distribution_grant given ON given.contact_id = member.contact_id
            GROUP BY member.contact_id HAVING count(given.id) = 1) entitled"""
    )
    assert once == MEMBERS, "every entitled contact has exactly one grant"
    assert scene.one("SELECT count(*) FROM distribution_grant") == MEMBERS, "and nobody else has one"
    holding = scene.one("SELECT count(*) FROM library_holding WHERE origin_key <> 'release:0'")
    assert holding == MEMBERS // 2, "every account holds it once"

    to = Counter(mail["to"] for mail in scene.recorder.mails())
    twice = [address for address, number in to.items() if number > 1]
    assert not twice, f"{len(twice)} addresses got two mails, such as {twice[:3]}"
    assert len({mail["message_id"] for mail in scene.recorder.mails()}) == sum(to.values())

    states = dict(
        scene.sql.execute("SELECT state, count(*) FROM messaging_delivery GROUP BY state").fetchall()
    )
    assert set(states) <= {"accepted", "unknown", "suppressed", "skipped"}, states
    assert sum(states.values()) == MEMBERS, "everyone planned ends in a named state"
    tallies: Counter[str] = Counter()
    for (tally,) in scene.sql.execute("SELECT tally FROM messaging_chunk WHERE state = 'done'"):
        tallies.update(tally)
    assert tallies == Counter(states), "the chunks' counts are what the table says"
    assert states["suppressed"] == MEMBERS // 200
    assert states["skipped"] == 2 * (MEMBERS // 200)

    accepted = {
        row[0]
        for row in scene.sql.execute("SELECT address_key FROM messaging_delivery WHERE state = 'accepted'")
    }
    unknown = {
        row[0]
        for row in scene.sql.execute("SELECT address_key FROM messaging_delivery WHERE state = 'unknown'")
    }
    assert accepted <= set(to), "what is called accepted was taken"
    assert set(to) <= accepted | unknown, "what was taken is called accepted or in doubt"
    assert UNHEARD in unknown & set(to), "taken, never heard of, in doubt, and not sent again"
    assert len(unknown) <= len(scene.shots), "one connection: at most one mail in doubt for each shot"
    assert scene.one("SELECT planned FROM messaging_message") == MEMBERS
    slots = scene.one("SELECT count(*) FROM messaging_sendslot WHERE released_at IS NULL")
    assert slots == 1, "however often it was started, one slot"
    return {"shots": scene.shots, "mails": sum(to.values()), "in_doubt": sorted(unknown), **states}

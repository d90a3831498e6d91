"""A worker looks for what is due by itself: with no broker in reach and no beat, nothing but speed is lost."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from config.celery import app
from config.sweeping import rounds

HOUSE = Path(__file__).resolve().parents[2]
MEMBERS = 20


def test_a_worker_goes_the_rounds_of_its_own_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    for queue, rooms in {"people": {"accounts", "groups"}, "files": {"library"}}.items():
        monkeypatch.setattr(app.amqp.queues, "_consume_from", {queue: app.amqp.queues.get(queue)})
        assert {name.partition(".")[0] for name, _seconds in rounds(app)} == rooms
    monkeypatch.setattr(app.amqp.queues, "_consume_from", {"mail": None})
    names = {name for name, _seconds in rounds(app)}
    assert {"distribution.tasks.sweep", "messaging.tasks.sweep", "messaging.tasks.send"} <= names


def said_by(module: str, *options: str, environ: dict[str, str], heard: str = "") -> str:
    """What a process of ours that ends well prints."""
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(
        command, cwd=HOUSE, env=environ, input=heard, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


@pytest.mark.slow
def test_with_no_broker_at_all_everybody_gets_it_and_is_told_once(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "VAR_DIR": str(tmp_path),
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SWEEP_SECONDS": "0.2",
    }
    scene = json.loads(said_by("tests.chaos.stage", str(MEMBERS), "1", environ=environ))
    order = {"act": "confirm", "message": scene["messages"][0], "staff": scene["staff"][:1], "clicks": 1}
    assert "confirmed" in said_by("tests.chaos.staff", environ=environ, heard=json.dumps(order))
    command = [sys.executable, "-m", "celery", "-A", "config", "-q", "worker", "-Q", "mail"]
    worker = subprocess.Popen(
        [*command, "--loglevel", "critical"], cwd=HOUSE, env=environ, start_new_session=True
    )
    try:
        with closing(sqlite3.connect(tmp_path / "largesse.sqlite3", timeout=20)) as rows:
            ends = time.monotonic() + 120
            while rows.execute("SELECT state FROM messaging_message").fetchone() != ("done",):
                assert time.monotonic() < ends, "nothing came of it"
                time.sleep(0.1)
            states = rows.execute("SELECT state, count(*) FROM messaging_delivery GROUP BY state").fetchall()
            assert rows.execute("SELECT count(*) FROM distribution_grant").fetchone() == (MEMBERS,)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    told = MEMBERS - scene["suppressed"] - scene["no_mail"] - scene["holding"]
    assert dict(states)["accepted"] == told
    assert sum(number for _state, number in states) == MEMBERS
    assert len(list((tmp_path / "mailbox").iterdir())) == told

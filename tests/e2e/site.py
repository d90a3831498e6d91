"""Largesse as people meet it: the real web server, a real worker with beat, and a mail server that remembers."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.request import urlopen

import psycopg
from psycopg import sql

from tests.recorder import Recorder

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Site:
    """A running installation of its own: database, files, mail."""

    url: str
    environment: dict[str, str]
    recorder: Recorder | None

    def manage(self, *arguments: str) -> str:
        """What `manage.py` says to these arguments."""
        return run("python", "manage.py", *arguments, environment=self.environment)

    def mails_to(self, address: str) -> list[EmailMessage]:
        assert self.recorder
        taken = [mail for mail in self.recorder.mails() if mail["to"] == address]
        return [
            message_from_bytes(self.recorder.raw_of(mail), _class=EmailMessage, policy=policy.default)
            for mail in taken
        ]

    def wait_for_mails(self, address: str, number: int = 1, seconds: float = 30) -> list[EmailMessage]:
        until = time.monotonic() + seconds
        while len(found := self.mails_to(address)) < number:
            assert time.monotonic() < until, f"{len(found)} of {number} mails came to {address}"
            time.sleep(0.1)
        return found

    def code_for(self, address: str, number: int = 1) -> str:
        """The code of the `number`th mail to `address`."""
        mail = self.wait_for_mails(address, number)[number - 1]
        found = re.search(r"^\s*([A-Z0-9]{3,6}(?:-[A-Z0-9]{3,6})?)\s*$", text_of(mail), re.MULTILINE)
        assert found, text_of(mail)
        return found[1]


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


@contextmanager
def running_site(folder: Path, *, real_mail: bool = True, sweep: float = 2) -> Iterator[Site]:
    """On the database and broker that DATABASE_URL and REDIS_URL name; without them the embedded ones."""
    port = free_port()
    with Recorder(folder, raw=True) as recorder, own_database() as database, own_redis(folder) as redis:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "VAR_DIR": str(folder / "var"),
            "PORT": str(port),
            "DATABASE_URL": database or f"sqlite:///{folder / 'site.sqlite3'}",
            "REDIS_URL": redis,
            "EMAIL_URL": f"smtp://127.0.0.1:{recorder.port}" if real_mail else "",
            "CREATORS": "open",
            "SWEEP_SECONDS": str(sweep),
            "LOG_LEVEL": "WARNING",
            "PYTHONUNBUFFERED": "1",
        }
        for arguments in (["migrate", "-v0"], ["createcachetable"], ["collectstatic", "--noinput", "-v0"]):
            run("python", "manage.py", *arguments, environment=environment)
        site = Site(f"http://127.0.0.1:{port}", environment, recorder)
        queues = "people,mail,files"
        with (
            process(folder / "web.log", environment, "gunicorn", "config.wsgi"),
            process(
                folder / "worker.log",
                environment,
                *celery("worker", "-Q", queues, "--pool", "threads", "-c", "4"),
            ),
            process(folder / "beat.log", environment, *celery("beat")),
        ):
            wait_until_it_answers(f"{site.url}/readyz")
            yield site


def celery(*arguments: str) -> list[str]:
    return ["celery", "-A", "config", "-q", *arguments, "--loglevel", "WARNING"]


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def run(name: str, *arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [program(name), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def process(log: Path, environment: dict[str, str], name: str, *arguments: str) -> Iterator[None]:
    """Runs until the block ends; it must live that long, and nothing in its log may be a traceback."""
    with log.open("w") as said:
        running = subprocess.Popen(
            [program(name), *arguments], cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
    try:
        yield
        assert running.poll() is None, f"{name} ended early: {log.read_text()[-3000:]}"
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
    assert "Traceback" not in log.read_text(), log.read_text()[-6000:]


@contextmanager
def own_database() -> Iterator[str]:
    """A new database beside the one that DATABASE_URL names; without that variable nothing."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        yield ""
        return
    server = url.rpartition("/")[0]
    name = sql.Identifier(f"largesse_e2e_{secrets.token_hex(4)}")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield f"{server}/{name._obj[0]}"
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def own_redis(folder: Path) -> Iterator[str]:
    """A new Redis if REDIS_URL names one: another site's workers on the same would take our wake-ups for theirs."""
    url = os.environ.get("REDIS_URL", "")
    if not url or not (server := shutil.which("redis-server")):
        yield url
        return
    port = free_port()
    redis = subprocess.Popen(
        [
            server,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        redis.terminate()
        redis.wait()


def wait_until_it_answers(address: str) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            with urlopen(address, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

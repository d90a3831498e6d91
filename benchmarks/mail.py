"""A message to many, from the press of the button to its last mail, against two usual ways of sending one.

Ours is the product as it runs: confirmed, granted, planned, cut into chunks and sent by Celery workers over Redis and
PostgreSQL. The rivals do less, they give nothing to anybody: django-post_office, and a Celery task a recipient, each
with a row for every recipient. All have as many worker processes, the same 12 kB mail and the same sink on this
machine, and take turns.

`MAIL_MEMBERS` is how many are written to in a lap of ours, `MAIL_RIVALS` in one of theirs (rates are compared),
`MAIL_MANY` the largest message whose worker's memory is measured.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psutil
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.models import User
from benchmarks import crowd
from benchmarks.rivals.pattern import SLOTS, Pattern
from benchmarks.scratch import scratch_database
from benchmarks.sink import sink
from distribution.models import Grant
from groups.models import Group
from library.models import Bundle
from messaging.mail import Mailing, Recipient
from messaging.models import Delivery, Message
from messaging.services import confirm_message
from messaging.tasks import wake_message
from tests.recorder import Recorder

MEMBERS = int(os.environ.get("MAIL_MEMBERS", "40000"))
RIVALS = int(os.environ.get("MAIL_RIVALS", "3000"))
FEW = 10_000
MANY = int(os.environ.get("MAIL_MANY", "300000"))
UNHEARD = 5_000
ROUNDS = int(os.environ.get("MAIL_ROUNDS", "3"))
WORKERS = int(os.environ.get("MAIL_WORKERS", str(min(2, os.cpu_count() or 1))))
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parent.parent
SITE = "https://largesse.example"
# With it the mail has 12 kB on the wire.
WORDS = "Hi {first_name|friend},\n\nthe *dragon* is ready. " + "She took her time, and so did we. " * 55
NOWHERE = "redis://127.0.0.1:1/0"


def run() -> Iterator[dict[str, Any]]:
    if connection.vendor != "postgresql" or not settings.REDIS_URL:
        yield crowd.told("mail", None, "skipped: needs PostgreSQL and Redis")
        return
    with scratch_database("mail"), tempfile.TemporaryDirectory() as folder, sink() as (port, taken):
        house = House.built(Path(folder), port)
        # It only grows.
        unheard_of, few, many = sorted([min(UNHEARD, MEMBERS), min(FEW, MEMBERS), max(MANY, MEMBERS)])
        house.people(unheard_of)
        yield from unheard(house, unheard_of)
        house.people(few)
        small = house.lap(few).peak
        house.people(MEMBERS)
        yield from race(house, taken)
        house.people(many)
        large = house.lap(many)
        yield crowd.told(f"mails to {many:,} members", round(many / large.seconds), "mails/s")
        yield crowd.told("a sending worker's peak", round(large.peak / 1024**2), "MB")
        name = f"a sending worker's peak at {many:,} members, of that at {few:,}"
        yield crowd.ratio(name, large.peak / small, 1.2, most=True)


def race(house: "House", taken: Any) -> Iterator[dict[str, Any]]:
    """All three in turn."""
    size = house.write_pattern()
    rates: dict[str, list[float]] = {"ours": [], "office": [], "each": []}
    for _round in range(ROUNDS):
        for name, of_rounds in rates.items():
            before = taken()
            mails = MEMBERS if name == "ours" else RIVALS
            seconds = house.lap(MEMBERS).seconds if name == "ours" else house.rival_lap(name)
            if taken() - before != mails:
                raise AssertionError(f"{name} sent {taken() - before} of {mails}")
            of_rounds.append(mails / seconds)
    ours, office, each = (median(of_rounds) for of_rounds in rates.values())
    yield crowd.told("a mail on the wire", size, "bytes")
    yield crowd.ratio("mails a second, over the better of two usual ways", ours / max(office, each), 5.0)
    yield crowd.ratio("mails a second, over django-post_office", ours / office)
    yield crowd.ratio("mails a second, over a Celery task a recipient", ours / each)
    yield crowd.told("mails, the whole way", round(ours), "mails/s")
    yield crowd.told("mails by django-post_office", round(office), "mails/s")
    yield crowd.told("mails by a Celery task a recipient", round(each), "mails/s")


def unheard(house: "House", members: int) -> Iterator[dict[str, Any]]:
    """Nobody hears a ring the whole time: what everybody has in the end is the same."""
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
        away = {"REDIS_URL": NOWHERE, "EMAIL_URL": f"smtp://127.0.0.1:{recorder.port}", "SWEEP_SECONDS": "1"}
        lap = house.lap(members, **away)
        to = Counter(mail["to"] for mail in recorder.mails())
    wrong = abs(members - len(to)) + sum(number - 1 for number in to.values())
    wrong += abs(members - Grant.objects.count())
    yield {
        "name": f"without Redis, of {members:,} grants and mails wrong",
        "value": wrong,
        "unit": "",
        "goal": 0,
        "holds": wrong == 0,
    }
    yield crowd.told("without Redis, the whole way", round(members / lap.seconds), "mails/s")


@dataclass(frozen=True)
class Lap:
    """Seconds from the press of the button to the last mail, and the most memory one worker had, in bytes."""

    seconds: float
    peak: int


@dataclass
class House:
    """Everything that runs beside us."""

    folder: Path
    environ: dict[str, str]
    group: Group
    bundle: Bundle
    members: int = 0

    @classmethod
    def built(cls, folder: Path, port: int) -> "House":
        found = connection.settings_dict
        place = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{found['NAME']}")
        kept = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG", "REDIS_URL") if name in os.environ
        }
        environ = {
            **kept,
            "DATABASE_URL": urlunsplit(place),
            "EMAIL_URL": f"smtp://127.0.0.1:{port}",
            "VAR_DIR": str(folder),
            "SITE_URL": SITE,
            "LOG_LEVEL": "WARNING",
            "PYTHONWARNINGS": "ignore",
        }
        tables = [sys.executable, "manage.py", "migrate", "--run-syncdb", "-v", "0"]
        of_rivals = {"DJANGO_SETTINGS_MODULE": "benchmarks.rivals.settings"}
        subprocess.run(tables, cwd=ROOT, env=environ | of_rivals, check=True)
        group = crowd.make_group("forge", members=0, now=NOW)
        return cls(folder, environ, group, crowd.make_bundle(group.creator, now=NOW))

    def people(self, members: int) -> None:
        """The group has so many members."""
        if members > self.members:
            crowd.add_members(self.group, first=self.members + 1, last=members, now=NOW)
            self.members = members

    def clear(self) -> None:
        """Nobody was given or told anything yet."""
        with connection.cursor() as cursor:
            cursor.execute(
                "TRUNCATE messaging_message, messaging_delivery, messaging_recentmail, distribution_release,"
                " distribution_grant, library_libraryentry, rivals_mail, post_office_email CASCADE"
            )
        crowd.settle()

    def lap(self, members: int, **environ: str) -> Lap:
        """One message to everybody, by fresh workers that stand ready."""
        if members != self.members:
            raise AssertionError(f"{self.members} would be written to, not {members}")
        self.clear()
        command = ["-A", "config", "-q", "worker", "-Q", "mail", "-c", "2", "--loglevel", "error"]
        with self.workers(command, WORKERS, environ) as processes:
            now = timezone.now()
            message = crowd.make_message(self.group, self.bundle, body=WORDS, now=now)
            by = User.objects.get(email=self.group.creator.reply_to)
            began = time.perf_counter()
            confirm_message(message, request_id=uuid4(), due_at=now, by=by, now=now)
            if "REDIS_URL" not in environ:
                wake_message(message.pk)
            peak = wait_until_done(message, processes)
            seconds = time.perf_counter() - began
        states = Delivery.objects.filter(message=message).values_list("state", flat=True)
        if Counter(states) != {"accepted": members}:
            raise AssertionError(f"not all were sent: {Counter(states)}")
        return Lap(seconds, peak)

    def rival_lap(self, name: str) -> float:
        """Seconds of one lap of a rival, without the start of its processes."""
        self.clear()
        environ = {"DJANGO_SETTINGS_MODULE": "benchmarks.rivals.settings"}
        lap = [
            sys.executable,
            "-m",
            "benchmarks.rivals.race",
            name,
            str(self.pattern),
            str(RIVALS),
            str(WORKERS),
        ]
        command = ["-A", "benchmarks.rivals.each", "-q", "worker", "-Q", "rivals", "-c", str(WORKERS)]
        with self.workers([*command, "--loglevel", "error"], 1 if name == "each" else 0, environ):
            done = subprocess.run(
                lap, cwd=ROOT, env=self.environ | environ, stdout=subprocess.PIPE, check=True, text=True
            )
        return float(done.stdout.splitlines()[-1])

    @contextmanager
    def workers(
        self, command: Sequence[str], number: int, environ: Mapping[str, str]
    ) -> Iterator[list[psutil.Process]]:
        """So many Celery workers, which are up."""
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "celery", *command, "-n", f"bench{at}@{socket.gethostname()}"],
                cwd=ROOT,
                env=self.environ | environ,
                start_new_session=True,
            )
            for at in range(number)
        ]
        try:
            # Long enough for both to have swept an empty house, so that what is measured is not their start.
            time.sleep(6 if number else 0)
            yield [psutil.Process(one.pid) for one in running]
        finally:
            for one in running:
                one.terminate()
            for one in running:
                one.wait(60)

    @property
    def pattern(self) -> Path:
        return self.folder / "pattern.json"

    def write_pattern(self) -> int:
        """The mail as the rivals' templates; returns how many bytes it has on the wire."""
        self.clear()
        message = crowd.make_message(self.group, self.bundle, body=WORDS, now=timezone.now())
        message.release.creator = self.group.creator
        mailing = Mailing(message)

        def to(values: Mapping[str, str]) -> Any:
            return mailing.to(Recipient(**values, delivery="pattern", date=NOW))  # type: ignore[arg-type]

        slots = to({slot: f"{{{{{slot}}}}}" for slot in SLOTS})
        Pattern(
            subject=slots.subject,
            text=slots.text,
            html=slots.html,
            sender=mailing.shown_from,
            reply_to=mailing.reply_to,
            headers=mailing.headers,
            site=SITE,
        ).write(self.pattern)
        filled = Pattern.read(str(self.pattern)).values("member1@forge.example", "Member 1")
        return len(to(filled).raw)


def wait_until_done(message: Message, processes: Sequence[psutil.Process]) -> int:
    """The most memory that one of `processes` has until all mails are out."""
    peak, ends = 0, time.monotonic() + 1800
    while Message.objects.values_list("state", flat=True).get(pk=message.pk) != Message.State.DONE:
        if time.monotonic() > ends:
            raise TimeoutError(json.dumps(Message.objects.filter(pk=message.pk).values().get(), default=str))
        peak = max(peak, *(process.memory_info().rss for process in processes))
        time.sleep(0.1)
    return peak

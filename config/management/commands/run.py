import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from accounts.models import User
from config.demo import build as demo
from config.sign_in_link import RUNNING, make_link
from config.supervisor import Hopeless, Part, supervise

SECONDS_TO_ANSWER = 60


class Command(BaseCommand):
    """Everything in one terminal: the database up to date, then web, worker and beat until Ctrl-C."""

    help = "Prepare the database and run web, worker and beat until Ctrl-C."
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        # Before the parts stand there is nothing to stop: Ctrl-C just ends this, without a traceback.
        signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
        self.refuse_a_busy_port()
        self.prepare()
        parts = [
            Part("web", tool("gunicorn", "config.wsgi", "--log-level", "warning")),
            Part(
                "worker",
                celery("worker", "--concurrency", "4", "-Q", "people,mail,files"),
            ),
            Part("beat", celery("beat")),
        ]
        environ = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore:You're running the worker",
        }
        RUNNING.write_text(settings.SITE_URL)
        try:
            supervise(parts, environ=environ, say=self.say, started=self.welcome)
        except Hopeless as hopeless:
            raise CommandError(str(hopeless)) from hopeless
        finally:
            RUNNING.unlink(missing_ok=True)
        self.say("Stopped.")

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def refuse_a_busy_port(self) -> None:
        with socket.socket(socket.AF_INET6 if ":" in settings.BIND else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.BIND, settings.PORT))
            except OSError as error:
                raise CommandError(
                    f"Port {settings.PORT} on {settings.BIND} cannot be used: {error.strerror}. "
                    f"Something else may be running there. Choose another: make run PORT={settings.PORT + 1}"
                ) from error

    def prepare(self) -> None:
        self.say("Preparing the database and the static files …")
        call_command("migrate", verbosity=0)
        if not settings.REDIS_URL:
            call_command("createcachetable", verbosity=0)
        call_command("collectstatic", verbosity=0, interactive=False)
        if settings.MAILBOX and demo.is_wanted():
            self.say("Making a demo creator with files, people and a release. This takes a moment, once …")
            call_command("demo", verbosity=0)

    def welcome(self) -> None:
        """Says where things are as soon as the web answers."""
        address = f"http://{settings.BIND}:{settings.PORT}/healthz"
        until = time.monotonic() + SECONDS_TO_ANSWER
        while time.monotonic() < until:
            try:
                with urlopen(address, timeout=2):
                    break
            except (URLError, OSError):
                time.sleep(0.1)
        else:
            self.say("The web has not answered for a minute; what it said stands above.")
            return
        for line in self.words():
            self.say(line)

    def words(self) -> list[str]:
        bold = self.style.MIGRATE_HEADING
        lines = ["", f"  {bold(settings.SITE_NAME)} is at  {settings.SITE_URL}/", ""]
        if settings.MAILBOX:
            cast = User.objects.filter(email__in=[demo.CREATOR_ADDRESS, demo.MEMBER_ADDRESS], is_active=True)
            for user in cast.order_by("pk"):
                role = "creator" if user.email == demo.CREATOR_ADDRESS else "member"
                lines += [f"  Sign in as the demo {role} {user.name} (a link for one use, within the hour):"]
                lines += [f"    {make_link(user)}"]
            lines += [
                "  or ask for a code with any address. Mail lands in the mailbox, nothing leaves this machine:"
            ]
            lines += [f"    {settings.SITE_URL}/mailbox/"]
        else:
            lines += ["  Make yourself an admin:  .venv/bin/python manage.py createadmin EMAIL"]
        lines += ["", *(f"  {part:<9} {profile}" for part, profile in profiles().items())]
        return [*lines, "", "  Ctrl-C stops everything; what you did stays.", ""]


def profiles() -> dict[str, str]:
    """Which part of the house is the embedded one and which is real, in words."""
    database = settings.DATABASES["default"]
    here = Path.cwd()
    return {
        "database": f"SQLite, {short(database['NAME'], here)}"
        if connection.vendor == "sqlite"
        else f"PostgreSQL, {database['NAME']} at {database['HOST'] or 'the local socket'}",
        "broker": "Redis" if settings.REDIS_URL else f"files in {short(settings.VAR_DIR / 'wakeups', here)}",
        "cache": "Redis" if settings.REDIS_URL else "a table of the database",
        "files": f"S3, bucket {settings.S3_BUCKET}"
        if settings.S3_BUCKET
        else f"this disk, {short(settings.MEDIA_ROOT, here)}",
        "mail": f"the mailbox page, {short(settings.MAILBOX_DIR, here)}"
        if settings.MAILBOX
        else settings.EMAIL_BACKEND.rpartition(".")[0],
    }


def short(path: str | Path, here: Path) -> str:
    path = Path(path)
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def tool(name: str, *arguments: str) -> list[str]:
    """A program of this very environment."""
    return [str(Path(sys.executable).with_name(name)), *arguments]


def celery(*arguments: str) -> list[str]:
    return tool("celery", "-A", "config", "-q", *arguments, "--loglevel", "warning")

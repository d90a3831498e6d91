"""Logs tell what happened and to whom it did not: no address, no ticket, no token, in any format."""

import io
import json
import logging
import logging.config
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from django.conf import LazySettings, settings
from django.db import DatabaseError, connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.services import alarm, post_letter, send_due_letters
from config import logs
from config.celery import app, log_like_the_rest
from config.logs import Json, Line, black_out
from config.sign_in_link import make_link
from distribution.tickets import issue_ticket
from groups.models import Contact
from messaging import services
from messaging.mail import Mail
from messaging.models import Message
from messaging.providers import Answer
from messaging.tasks import _do
from messaging.tokens import preferences_token, why_token
from tests import factories
from tests.e2e.site import free_port
from tests.messaging.conftest import *  # noqa: F403 – a message on its way
from tests.messaging.test_chunks import Script

ROOT = Path(__file__).parent.parent.parent
ADDRESS = "mia.o'neill+gifts@mail.example.org"


@contextmanager
def heard(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    """What the house's handler would write, of everything that anybody says."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield out
    finally:
        root.removeHandler(handler)


@pytest.fixture(params=[Line("%(asctime)s %(levelname)s %(name)s %(message)s"), Json()], ids=["line", "json"])
def said(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    with heard(request.param) as out:
        yield out


@pytest.mark.parametrize(
    "text",
    [
        f"to {ADDRESS}.",
        f"<{ADDRESS}>: 550 no such user",
        f"{{'{ADDRESS}': (550, b'no')}}",
        "Key (address_key)=(mia@example.org) already exists.",
        "/accounts/login/?email=mia%40example.org&next=/",
        "mailto:MIA@EXAMPLE.ORG",
        "bounce+mia=example.org@gifts.example.org",
        "zoe@xn--exmple-cua.com, zoë@exämple.com",
        "redis://user:mia@example.org:6379/0",
    ],
)
def test_no_address_is_left(text: str) -> None:
    left = black_out(text)
    assert not re.search(r"mia|zo[eë]|neill|@|%40", left, re.IGNORECASE)
    assert black_out(left) == left


def test_no_ticket_or_token_is_left_wherever_it_stands() -> None:
    for number in range(1, 3000):
        for token in (issue_ticket(number, 1), preferences_token(number), why_token(number)):
            secret = token.rpartition(".")[2]
            assert secret not in black_out(f"read {token}, and went on")


def test_a_ticket_that_has_no_small_letter_is_none_the_less_one() -> None:
    assert black_out("read AQAAAAAAAAFPAAGNYOYRA_G7K8HI1-25QEI4, and went on") == "read [ticket], and went on"
    assert issue_ticket(2**40, 2**15).startswith("AQA")


def links(patterns: list[Any], path: str = "/") -> Iterator[str]:
    for pattern in patterns:
        here = f"{path}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from links(pattern.url_patterns, here)
        elif isinstance(pattern, URLPattern) and re.search(r"<\w+:(?:token|ticket|key)>", here):
            yield re.sub(r"<int:\w+>", "1", re.sub(r"<\w+:(?:token|ticket|key)>", "short-1", here))


def test_every_address_of_the_site_that_carries_a_right_is_blacked_out_however_short_it_is() -> None:
    paths = list(links(get_resolver().url_patterns))
    assert len(paths) >= 7
    for path in paths:
        assert "short-1" not in black_out(f"GET {settings.SITE_URL}{path} 404"), path


@pytest.mark.parametrize(
    "text",
    [
        "message 12: 500 deliveries, but its chunks count 499",
        "Task messaging.tasks.send[6f1c1f3e-6d5c-4f5e-9d3c-0f4f3c1a2b3c] succeeded in 0.01s",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "distribution.services.grants.fan_out_grants took too long_for_anybody_to_wait",
        "2026-11-21T12:00:00.000+00:00 https://gifts.example.org/studio/anas-forge/releases/12/",
        "django.contrib.sessions.exceptions.SessionInterrupted",
        "    @transaction.atomic",
    ],
)
def test_what_names_nobody_stays_as_it_is(text: str) -> None:
    assert black_out(text) == text


def test_a_line_of_json_has_its_parts_and_what_was_added_and_the_traceback() -> None:
    with heard(Json()) as out:
        log = logging.getLogger("room")
        log.warning(
            "%s of %s\nto %s", 1, 2, ADDRESS, extra={"status_code": 404, "who": ADDRESS, "request": object()}
        )
        try:
            raise ValueError(ADDRESS)
        except ValueError:
            log.exception("failed", stack_info=True)
    first, second = map(json.loads, out.getvalue().splitlines())
    datetime.fromisoformat(first.pop("time"))
    assert first == {
        "level": "WARNING",
        "logger": "room",
        "message": "1 of 2\nto [address]",
        "process": os.getpid(),
        "status_code": 404,
        "who": "[address]",
    }
    assert "ValueError: [address]" in second["exception"]
    assert "test_logs" in second["stack"]


def test_a_thousand_lines_of_anything_take_no_time() -> None:
    began = time.process_time()
    for text in ("a" * 100_000, "a.b-c=" * 20_000, "A1b" * 30_000, "/redeem/" * 10_000):
        black_out(text)
    assert time.process_time() - began < 2


# --- real requests ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_real_requests_that_go_wrong_leave_no_ticket_and_no_address(
    said: io.StringIO, settings: LazySettings
) -> None:
    ticket = issue_ticket(7, 1)
    token = preferences_token(7)
    link = make_link(factories.UserFactory.create())
    client = Client(raise_request_exception=False)
    for path in (
        f"/redeem/{ticket}x/",
        f"/nowhere/{ticket}",
        f"/unsubscribe/{token}",
        f"/x?email={ADDRESS}",
        f"{link}/x",
    ):
        client.get(path)
    client.post(f"/redeem/{ticket}/nowhere", {"email": ADDRESS})
    Client(enforce_csrf_checks=True).post(f"/redeem/{ticket}/", {})
    Client(HTTP_HOST="evil.example").get(f"/redeem/{ticket}/")

    # And one that breaks in our own code, its words and all.
    def broken(*_args: object, **_kwargs: object) -> None:
        raise DatabaseError(f"Key (email)=({ADDRESS}) {ticket}")

    with connection.execute_wrapper(broken):
        page = client.get(f"/redeem/{ticket}/")
    assert page.status_code == 500
    text = said.getvalue()
    assert "DatabaseError" in text
    assert "Not Found: /redeem/[ticket]" in text
    for secret in (
        ticket,
        token.rpartition(".")[2],
        link.rstrip("/").rpartition("/")[2],
        "neill",
        "mail.example.org",
    ):
        assert secret not in text, secret


@pytest.mark.django_db
def test_letters_that_fail_and_alarms_name_nobody(
    said: io.StringIO, now: datetime, settings: LazySettings
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    post_letter("code", ADDRESS, subject="s", text="t", dedupe_key="k", now=now)
    send_due_letters(now=now)
    alarm("Trouble", f"with {ADDRESS}", dedupe_key="k", now=now)
    text = said.getvalue()
    assert "was not sent" in text
    assert "Trouble" in text
    assert "neill" not in text


@pytest.mark.django_db
def test_what_breaks_in_a_send_and_what_is_forged_at_a_webhook_name_nobody(
    said: io.StringIO,
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
    settings: LazySettings,
) -> None:
    class Broken(Script):
        def answer_to(self, mail: Mail) -> Answer:
            raise ValueError(f"{mail.address} {mail.raw.decode()} {ADDRESS}")

    start(confirm(draft))

    def send() -> None:
        services.send_waiting(owner="x", provider=Broken(), clock=lambda: now, stop=lambda: False)

    _do(send)
    settings.ANYMAIL = {
        "WEBHOOK_SECRET": "name:" + "Secret4" * 5,
        "RESEND_SIGNING_SECRET": "whsec_" + "c2VjcmV0" * 4,
    }
    client = Client(raise_request_exception=False)
    for provider in ("resend", "postmark", "brevo", "nobody"):
        client.post(f"/mail/events/{provider}/", {"to": ADDRESS}, content_type="application/json")
        client.post(f"/mail/events/{provider}/?email={ADDRESS}", ADDRESS, content_type="application/json")
    text = said.getvalue()
    assert "ValueError: [address]" in text
    for secret in ("neill", "example.net", "Secret4", "c2VjcmV0"):
        assert secret not in text, secret
    assert "/redeem/[ticket]" in text


# --- the processes --------------------------------------------------------------------------------------------


def test_celery_brings_no_handler_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = threading.excepthook, sys.excepthook
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        log_like_the_rest(loglevel=logging.WARNING)
        assert root.level == logging.WARNING
        log_like_the_rest(loglevel=None)
        app.log.setup_logging_subsystem(loglevel="WARNING")
        ours = [handler for handler in root.handlers if handler not in before]
        assert {type(handler.formatter) for handler in ours} <= {Line, Json}
        for name in ("django", "django.server", "celery", "celery.task", "gunicorn.error", "gunicorn.access"):
            speaking = [
                handler
                for handler in logging.getLogger(name).handlers
                if not isinstance(handler, logging.NullHandler)
            ]
            assert speaking == [], name
    finally:
        logging.captureWarnings(False)
        root.handlers, threading.excepthook, sys.excepthook = before, *hooks
        root.setLevel(level)


def test_what_nobody_caught_is_said_like_the_rest(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    logs.say_what_nobody_caught()

    def fail() -> None:
        raise ValueError(ADDRESS)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError(ADDRESS), None)
    logging.captureWarnings(False)
    assert said.getvalue().count("ValueError: [address]") == 2


def test_the_web_server_says_all_it_says_in_json_and_names_nobody(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "VAR_DIR": str(tmp_path),
        "PORT": str(port),
        "LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
    }
    program = Path(sys.executable).with_name("gunicorn")
    ticket = issue_ticket(7, 1)
    with (tmp_path / "said").open("w") as file:
        server = subprocess.Popen(
            [program, "config.wsgi", "--access-logfile", "-"],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
        )
        try:
            until = time.monotonic() + 120
            while True:
                try:
                    with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                        break
                except OSError:
                    assert time.monotonic() < until
                    time.sleep(0.2)
            for path in (f"/redeem/{ticket}/", f"/nowhere?email={ADDRESS.replace(chr(39), '')}"):
                with pytest.raises(OSError, match="HTTP Error"):
                    urlopen(Request(f"http://127.0.0.1:{port}{path}"), timeout=30)
        finally:
            server.terminate()
            server.wait(20)
    lines = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    assert {"gunicorn.error", "gunicorn.access", "django.request"} <= {line["logger"] for line in lines}
    text = (tmp_path / "said").read_text()
    assert "GET /redeem/[ticket]/" in text
    assert ticket not in text
    assert "neill" not in text


@pytest.mark.parametrize("piece", ["a'", "'", "a=", "=", "a@", "-", "%40", "A1b="])
def test_work_grows_with_the_line_and_not_with_its_square(piece: str) -> None:
    def cost(pieces: int) -> float:
        """Of the processor's time, the least of several: what else the machine does is not ours."""
        took = []
        for _again in range(5):
            begun = time.process_time()
            black_out(piece * pieces)
            took.append(time.process_time() - begun)
        return min(took)

    # Twice as long costs twice as much; with a square it would be four times, and sixteen for this.
    assert cost(16_000) < 9 * max(cost(4_000), 0.0005)


def test_what_stands_in_quotation_marks_keeps_them() -> None:
    assert black_out("'mia@example.org' and it's o'mia@example.org") == "'[address]' and it's [address]"

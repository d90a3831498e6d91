"""Letters may leave by a way of their own: what stops mail about releases does not stop a code."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail

from accounts.models import Letter, Suppression
from accounts.services import post_letter, send_due_letters, suppress
from tests.recorder import Recorder

ROOT = Path(__file__).parent.parent.parent


def post(now: datetime, key: str = "code:mia@example.org") -> Letter:
    return post_letter(
        "code", "mia@example.org", subject="Hi", text="One", code="123456", dedupe_key=key, now=now
    )


@pytest.mark.django_db
def test_a_letter_is_from_the_site_and_has_one_name_whenever_it_is_sent(
    now: datetime, settings: LazySettings
) -> None:
    for _attempt in range(2):
        letter = post(now)
        send_due_letters(now=now)
        Letter.objects.update(state="waiting", lease_until=None)
    first, again = mail.outbox
    assert first.extra_headers["Message-ID"] == again.extra_headers["Message-ID"]
    assert first.extra_headers["Message-ID"].startswith(f"<letter.{letter.pk}.")
    assert first.extra_headers["Message-ID"].endswith("@testserver>")
    assert "mia" not in first.extra_headers["Message-ID"]
    assert first.message()["Message-ID"] == first.extra_headers["Message-ID"]
    assert first.from_email == settings.DEFAULT_FROM_EMAIL
    assert (first.message()["Auto-Submitted"], first.message()["X-Auto-Response-Suppress"]) == (
        "auto-generated",
        "All",
    )
    assert not hasattr(first, "esp_extra")


@pytest.mark.django_db
def test_a_suppressed_address_gets_its_letters(now: datetime) -> None:
    for reason in Suppression.Reason:
        suppress("mia@example.org", reason, now=now)
    post(now)
    assert send_due_letters(now=now) == 1
    assert [sent.to for sent in mail.outbox] == [["mia@example.org"]]


@pytest.mark.django_db
def test_letters_take_their_own_way_and_their_own_sender(
    now: datetime, settings: LazySettings, tmp_path: Path
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    # The way of the releases: nobody is there, and it would want TLS and a name.
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    settings.EMAIL_USE_TLS, settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = True, "releases", "x"
    with Recorder(tmp_path) as recorder:
        made = made_of({"LETTERS_EMAIL_URL": f"smtp://127.0.0.1:{recorder.port}"})
        settings.LETTERS_EMAIL_BACKEND, settings.LETTERS_OPTIONS = made["backend"], made["options"]
        settings.LETTERS_FROM = "codes@id.example.org"
        post(now)
        assert send_due_letters(now=now) == 1
        (sent,) = recorder.mails()
    assert (sent["from"], sent["to"]) == ("codes@id.example.org", "mia@example.org")


@pytest.mark.django_db
def test_a_provider_is_told_the_stream_of_letters(now: datetime, settings: LazySettings) -> None:
    settings.LETTERS_EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.LETTERS_ESP_EXTRA = {"MessageStream": "outbound"}
    post(now)
    send_due_letters(now=now)
    assert mail.outbox[0].esp_extra == {"MessageStream": "outbound"}  # type: ignore[attr-defined]


def made_of(environment: dict[str, str]) -> dict[str, Any]:
    """What the settings make of these variables, in a process of their own."""
    ask = (
        "import json; from config import settings as s; print(json.dumps({'backend': s.LETTERS_EMAIL_BACKEND,"
        "'options': s.LETTERS_OPTIONS, 'extra': s.LETTERS_ESP_EXTRA, 'anymail': s.ANYMAIL}))"
    )
    env = {**os.environ, **environment}
    said = subprocess.run(
        [sys.executable, "-c", ask], env=env, cwd=ROOT, capture_output=True, check=True, text=True
    )
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_with_nothing_set_letters_go_as_everything_goes() -> None:
    empty = {"LETTERS_EMAIL_URL": "", "LETTERS_EMAIL_BACKEND": "", "LETTERS_ESP_EXTRA": ""}
    made = made_of(empty)
    assert (made["backend"], made["options"], made["extra"]) == ("", {}, {})


def test_the_environment_names_their_way() -> None:
    made = made_of(
        {
            "LETTERS_EMAIL_URL": "smtp+tls://codes:p%40ss@mail.example.org:587",
            "LETTERS_ESP_EXTRA": '{"MessageStream": "outbound"}',
            "ANYMAIL_POSTMARK_SEND_DEFAULTS": '{"esp_extra": {"MessageStream": "broadcast"}}',
        }
    )
    assert made["backend"] == "django.core.mail.backends.smtp.EmailBackend"
    assert made["options"] == {
        "host": "mail.example.org",
        "port": 587,
        "username": "codes",
        "password": "p@ss",
        "use_tls": True,
        "use_ssl": False,
    }
    assert made["extra"] == {"MessageStream": "outbound"}
    assert made["anymail"]["POSTMARK_SEND_DEFAULTS"] == {"esp_extra": {"MessageStream": "broadcast"}}

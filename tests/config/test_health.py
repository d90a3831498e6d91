"""Load balancers ask whether the process lives and whether it can serve; strangers learn nothing more."""

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client

from config.celery import app


def test_alive_is_said_without_asking_a_database() -> None:
    # No database mark: a query would fail this test.
    answer = Client().get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


@pytest.mark.django_db
def test_ready_says_what_each_part_does() -> None:
    answer = Client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "database": "ok",
        "migrations": "ok",
        "files": "ok",
        "cache": "ok",
        "broker": "ok",
    }


@pytest.mark.django_db
def test_a_database_that_was_not_migrated_is_not_ready() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'messaging'")
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["migrations"] == "down"


@pytest.mark.django_db
def test_a_disk_that_takes_nothing_is_not_ready_and_the_reason_stays_in_the_log(
    settings: LazySettings, tmp_path: Path
) -> None:
    (tmp_path / "a-file").write_text("")
    settings.MEDIA_ROOT = tmp_path / "a-file"
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["files"] == "down"
    assert str(tmp_path) not in answer.content.decode()


@pytest.mark.django_db
def test_without_a_broker_the_web_serves_on_and_says_degraded(monkeypatch: pytest.MonkeyPatch) -> None:
    # In this order: the one is the other's default, and what was patched first is put back last.
    monkeypatch.setattr(app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(app.conf, "broker_url", "redis://127.0.0.1:1/0")
    answer = Client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["broker"] == "degraded"

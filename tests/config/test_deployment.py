"""The real profile: what compose starts is what this code runs, and every variable has its word in .env.example."""

import ast
import itertools
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import psycopg
import pytest
import yaml
from django.conf import settings
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "largesse"}
# Read by gunicorn.conf.py and by compose itself.
READ_ELSEWHERE = {"WEB_CONCURRENCY", "POSTGRES_PASSWORD", "REDIS_PASSWORD"}


def example() -> dict[str, str]:
    """Every variable that .env.example names, those that are commented out too, as somebody fills them in."""
    text = (ROOT / ".env.example").read_text()
    own = re.sub(r"replace-me[a-z0-9-]*", lambda _match: secrets.token_hex(24), text)
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", own, re.MULTILINE))


def read_by_settings() -> set[str]:
    tree = ast.parse((ROOT / "config" / "settings.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        call.args[0].value
        for call in calls
        if call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
        and re.fullmatch(r"env\.[a-z_]+|kept_secret", ast.unparse(call.func))
    }


def test_every_variable_that_settings_read_has_its_word_and_no_other_has() -> None:
    named = {name for name in example() if not name.startswith("ANYMAIL_")}
    assert named == read_by_settings() | READ_ELSEWHERE


def test_every_word_stands_under_a_sentence() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"#?[A-Z][A-Z0-9_]*=", line):
            assert before.strip(), f"{line} has no word"


def test_compose_sets_only_what_settings_read_and_asks_only_for_what_the_example_names() -> None:
    for service in OURS.values():
        assert set(service["environment"]) <= read_by_settings() | READ_ELSEWHERE
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert asked <= set(example())


def test_compose_carries_no_secret() -> None:
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"SECRET|PASSWORD|_KEY", name):
                assert re.fullmatch(r"\$\{[A-Z0-9_]+:(\?|-)\}", value), name
    assert "${POSTGRES_PASSWORD:?}" in OURS["web"]["environment"]["DATABASE_URL"]
    assert "${REDIS_PASSWORD:?}" in OURS["web"]["environment"]["REDIS_URL"]


def test_compose_watches_over_everything_that_serves() -> None:
    for name, service in COMPOSE["services"].items():
        assert "healthcheck" in service or name in {"setup", "beat"}, name
    assert {"web", "beat", "postgres", "redis", "s3", "mail"} <= set(COMPOSE["services"])
    assert "noeviction" in " ".join(COMPOSE["services"]["redis"]["command"])


def test_every_queue_has_a_worker() -> None:
    used = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()} | {
        settings.CELERY_TASK_DEFAULT_QUEUE
    }
    served = {part[part.index("-Q") + 1] for part in (s["command"] for s in OURS.values()) if "-Q" in part}
    assert served == used
    units = (ROOT / "deploy" / "largesse-worker@.service").read_text()
    assert all(f"largesse-worker@{queue}" in units for queue in used)


@pytest.fixture(scope="module")
def real_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What compose would give our services, with parts that run here: a bucket of moto's, and this run's database."""
    s3 = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    s3.start()
    host, port = s3.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    ).create_bucket(Bucket="largesse")
    server, scratch = (
        os.environ["DATABASE_URL"].rpartition("/")[0],
        f"largesse_compose_{secrets.token_hex(4)}",
    )
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {scratch}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    yield {
        "DATABASE_URL": f"{server}/{scratch}",
        "REDIS_URL": os.environ["REDIS_URL"],
        "S3_ENDPOINT": endpoint,
        "BIND": "127.0.0.1",
        "PORT": str(free),
        "VAR_DIR": str(tmp_path_factory.mktemp("var")),
    }
    s3.stop()
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {scratch} WITH (FORCE)")


def environment_of(service: dict[str, Any], real_parts: dict[str, str]) -> dict[str, str]:
    """As compose would fill it in from .env.example."""

    def fill(match: re.Match[str]) -> str:
        return example().get(match[1]) or match[2].lstrip(":-?")

    filled = {
        name: re.sub(r"\$\{([A-Z0-9_]+)([^}]*)\}", fill, str(value))
        for name, value in service["environment"].items()
    }
    given = {name: value for name, value in {**filled, **real_parts}.items() if value}
    return {**given, "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}


def begin(service: dict[str, Any], environment: dict[str, str]) -> subprocess.Popen[str]:
    program, *arguments = service["command"]
    return subprocess.Popen(
        [str(Path(sys.executable).with_name(program)), *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.servers
def test_each_of_our_services_starts_by_its_own_command(real_parts: dict[str, str]) -> None:
    setup = begin(OURS["setup"], environment_of(OURS["setup"], real_parts))
    said, _ = setup.communicate(timeout=120)
    assert setup.returncode == 0, said
    running = {
        name: begin(service, environment_of(service, real_parts))
        for name, service in OURS.items()
        if name != "setup"
    }
    try:
        assert '"ready": true' in answer_of(f"http://127.0.0.1:{real_parts['PORT']}/readyz")
        time.sleep(4)
        ended = {
            name: process.communicate()[0] for name, process in running.items() if process.poll() is not None
        }
        assert not ended
    finally:
        for process in running.values():
            process.terminate()
        last = {name: process.communicate(timeout=60)[0] for name, process in running.items()}
    assert not {name: words for name, words in last.items() if "Traceback" in words}


def answer_of(address: str) -> str:
    until = time.monotonic() + 120
    while True:
        try:
            with urlopen(address, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@pytest.mark.slow
def test_a_web_server_for_others_without_real_mail_does_not_start(tmp_path: Path) -> None:
    base = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "PORT": "0"}
    for told, words in (
        ({"SITE_URL": "https://gifts.example.org"}, "There is no real mail"),
        ({"BIND": "0.0.0.0"}, "There is no real mail"),
    ):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("gunicorn")), "config.wsgi"],
            cwd=ROOT, env={**base, **told}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert words in done.stderr
    bound = subprocess.run(
        [str(Path(sys.executable).with_name("gunicorn")), "config.wsgi", "--bind", "0.0.0.0:0"],
        cwd=ROOT, env=base, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert bound.returncode != 0
    assert "others could read the mailbox page" in bound.stderr

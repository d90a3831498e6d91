"""What a run stands on, all of it its own: a PostgreSQL that may be crashed, a Redis that may be emptied, a bad cable."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Postgres:
    """A server on scratch data. Commits survive its own crash, not the machine's: nothing waits for the disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._bin = _programs()
        self._data = folder / "postgres"
        self._data.mkdir()
        # It refuses root.
        self._as = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self._as:
            os.chown(self._data, pwd.getpwnam("postgres").pw_uid, -1)
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        settings = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200"
            " -c fsync=off -c shared_buffers=256MB -c max_wal_size=2GB -c log_min_messages=fatal"
        )
        log = self._data / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", log, "-o", settings, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def crash(self) -> None:
        """As the power would: nothing is written any more; it comes up again from its log."""
        self.stop()
        self.start()

    def back_up(self, name: str, backup: Path) -> None:
        self._ask("pg_dump", "-Fc", "-f", str(backup), name)

    def restore(self, backup: Path, name: str) -> None:
        self._ask("createdb", name)
        self._ask("pg_restore", "-d", name, str(backup))

    def _ask(self, program: str, *arguments: str) -> None:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        subprocess.run([str(self._bin / program), *where, *arguments], stdin=subprocess.DEVNULL, check=True)

    def url(self, name: str, port: int = 0) -> str:
        return f"postgres://postgres@127.0.0.1:{port or self.port}/{name}?sslmode=disable"

    def _run(self, program: str, *arguments: object) -> None:
        command = [*self._as, str(self._bin / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            # To a file: the server keeps what it is given open, and a pipe would never end.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}; see {self._data}")


class Sql:
    """Plain SQL on the run's database, from outside: it comes back after every crash."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        ends = time.monotonic() + 60
        while True:
            try:
                if self._connection is None:
                    self._connection = psycopg.connect(
                        self._url, autocommit=True, application_name="judge", connect_timeout=5
                    )
                asked = self._connection.execute(query.encode(), values or None)
                return asked.fetchall() if asked.description else []
            except psycopg.OperationalError:
                self.close()
                if time.monotonic() > ends:
                    raise
                time.sleep(0.1)

    def one(self, query: str, *values: object) -> Any:
        return self.rows(query, *values)[0][0]

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()


class Redis:
    """A broker and cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Twice: it runs on."""
        if self._process and self._process.poll() is None:
            return
        options = "--bind 127.0.0.1 --save --appendonly no --maxmemory-policy noeviction --loglevel warning"
        command = ["redis-server", *options.split(), "--port", str(self.port), "--dir", str(self._folder)]
        command[command.index("--save") + 1 : command.index("--save") + 1] = [""]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _try in range(100):
            with contextlib.suppress(redis.ConnectionError), self._client() as client:
                client.ping()
                return
            time.sleep(0.05)
        raise SystemExit("redis-server does not come up")

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    # While it is away there is nothing to empty and nothing to fill.

    def flush(self) -> None:
        with contextlib.suppress(redis.ConnectionError), self._client() as client:
            client.flushall()

    def fill(self) -> None:
        """There is no memory left: whatever is written is refused."""
        with contextlib.suppress(redis.ConnectionError), self._client() as client:
            client.config_set("maxmemory", "1mb")

    def empty(self) -> None:
        with contextlib.suppress(redis.ConnectionError), self._client() as client:
            client.config_set("maxmemory", "0")

    def _client(self) -> "redis.Redis":
        return redis.Redis(port=self.port)


class Cable:
    """The way of some workers to PostgreSQL, which can lose the answer to a commit (`tests/chaos/cable.py`)."""

    def __init__(self, to: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("cable.py")), str(to)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    def lose_an_answer(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    def cut(self) -> None:
        self._process.send_signal(signal.SIGUSR2)

    def stop(self) -> list[str]:
        """Ends it. Returns a line for each answer that was lost."""
        self._process.terminate()
        said, _nothing = self._process.communicate(timeout=10)
        return said.splitlines()


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="largesse-chaos-"))
    # PostgreSQL's own user has to get through.
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if not os.environ.get("CHAOS_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parents[1].name)
    )
    path = str(found[-1]) if found else shutil.which("initdb")
    if not path or not shutil.which("redis-server"):
        raise SystemExit(
            "PostgreSQL's and Redis' own programs are needed: apt-get install postgresql redis-server"
        )
    return Path(path).parent

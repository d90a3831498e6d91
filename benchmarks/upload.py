"""Three gigabytes in parts through the real server, and back again: the server's memory must not notice.

A gunicorn of its own (gthread, as in production) with a scratch database and disk answers on loopback; four parts
travel at a time, as from the studio's page. Its memory is that of all its processes, sampled twenty times a second.
"""

import base64
import hashlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from accounts.models import User
from groups.models import Creator, Staff
from library import services
from library.models import Bundle, Upload

GIB, MIB = 1024**3, 1024**2
TOTAL = int(float(os.environ.get("UPLOAD_GB", "3")) * GIB)
PARALLEL = 4
ROOT = Path(__file__).resolve().parent.parent
Figures = Generator[dict[str, Any], None, dict[str, Any]]
# Ours in a part: its number, over and over, so that no two parts are alike and none is kept in memory whole.
BLOCK = 64 * 1024


def run() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=settings.VAR_DIR) as scratch:
        environ = environment(Path(scratch))
        run_python(environ, "manage.py", "migrate", "-v0")
        run_python(environ, "manage.py", "createcachetable", "-v0")
        run_python(environ, "manage.py", "collectstatic", "--noinput", "-v0")
        people = told_by(environ, "prepare()")
        with server(environ) as process:
            browser = Browser(environ["PORT"], people)
            browser.upload("warm-up.bin", 64 * MIB)
            watch = Watch(process)
            stored = yield from send(environ, browser, watch)
            yield from fetch(browser, watch, stored["file"])


def send(environ: dict[str, str], browser: "Browser", watch: "Watch") -> Figures:
    idle, begun = watch.now(), time.perf_counter()
    with watch.until_done() as peaks:
        number = browser.upload("large.bin", TOTAL, progress=watch.mark)
    seconds = time.perf_counter() - begun
    stored = told_by(environ, f"check({number})")
    first, last = peaks[0], peaks[max(peaks)]
    yield figure("upload_memory_growth", (max(peaks.values()) - idle) / MIB, "MB over idle", 64)
    yield figure("upload_memory_last_gb_over_first", (last - first) / MIB, "MB", 16)
    yield figure("upload_worker_memory", stored["peak"] / MIB, "MB while 3 GB are checked", 256)
    same = stored["sha256"] == digest(TOTAL)
    yield {"name": "upload_sha256_equal", "value": same, "unit": "", "goal": True, "holds": same}
    speed = round(TOTAL / MIB / seconds)
    yield {"name": "upload_speed", "value": speed, "unit": "MB/s", "goal": None, "holds": True}
    return stored


def fetch(browser: "Browser", watch: "Watch", file: int) -> Iterator[dict[str, Any]]:
    idle, begun = watch.now(), time.perf_counter()
    with watch.until_done() as peaks:
        got = browser.download(file, progress=watch.mark)
    seconds = time.perf_counter() - begun
    yield figure("download_memory_growth", (max(peaks.values()) - idle) / MIB, "MB over idle", 64)
    same = got == digest(TOTAL)
    yield {"name": "download_sha256_equal", "value": same, "unit": "", "goal": True, "holds": same}
    speed = round(TOTAL / MIB / seconds)
    yield {"name": "download_speed", "value": speed, "unit": "MB/s", "goal": None, "holds": True}


def figure(name: str, value: float, unit: str, goal: float) -> dict[str, Any]:
    return {"name": name, "value": round(value, 1), "unit": unit, "goal": goal, "holds": value <= goal}


class Watch:
    """The server's memory, and its peak in each gigabyte that passes."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.bytes, self.peaks = process, 0, {0: 0}
        self.lock = threading.Lock()

    def now(self) -> int:
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def mark(self, count: int) -> None:
        with self.lock:
            self.bytes += count

    @contextmanager
    def until_done(self) -> Iterator[dict[int, int]]:
        self.bytes, self.peaks, done = 0, {0: self.now()}, threading.Event()

        def sample() -> None:
            while not done.wait(0.05):
                gigabyte = min(self.bytes, TOTAL - 1) // GIB
                self.peaks[gigabyte] = max(self.peaks.get(gigabyte, 0), self.now())

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield self.peaks
        finally:
            done.set()
            thread.join()


class Browser:
    """Speaks to the server as the studio's page does."""

    def __init__(self, port: str, people: dict[str, Any]) -> None:
        self.port, self.people = int(port), people

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        cookies = f"sessionid={self.people['session']}; csrftoken={self.people['token']}"
        connection.request(
            method,
            path,
            body,
            {"Cookie": cookies, "X-CSRFToken": self.people["token"], "Accept": "application/json", **headers},
        )
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:300]!r}")
        return json.loads(answer)

    def upload(self, path: str, size: int, progress: Any = None) -> int:
        base = f"/studio/{self.people['slug']}"
        wish = json.dumps({"path": path, "size": size})
        kind = {"Content-Type": "application/json"}
        upload = self.ask("POST", f"{base}/bundles/{self.people['bundle']}/uploads/", wish, **kind)
        number, part_size = int(upload["upload"]), int(upload["part_size"])

        def put(part: int) -> None:
            length = min(part_size, size - (part - 1) * part_size)
            announced = base64.b64encode(part_digest(part, length)).decode()
            headers = {"Content-Length": str(length), "Content-Digest": f"sha-256=:{announced}:"}
            self.ask("PUT", f"{base}/uploads/{number}/parts/{part}/", part_bytes(part, length), **headers)
            if progress:
                progress(length)

        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(put, range(1, int(upload["parts"]) + 1)))
        self.ask("POST", f"{base}/uploads/{number}/complete/")
        return number

    def download(self, file: int, progress: Any) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(
            "GET", f"/library/files/{file}/", headers={"Cookie": f"sessionid={self.people['session']}"}
        )
        response, hash_ = connection.getresponse(), hashlib.sha256()
        while chunk := response.read(MIB):
            hash_.update(chunk)
            progress(len(chunk))
        connection.close()
        return hash_.hexdigest()


def part_bytes(part: int, length: int) -> Iterator[bytes]:
    block = part.to_bytes(8, "big") * (BLOCK // 8)
    for at in range(0, length, BLOCK):
        yield block[: length - at]


def part_digest(part: int, length: int) -> bytes:
    hash_ = hashlib.sha256()
    for block in part_bytes(part, length):
        hash_.update(block)
    return hash_.digest()


def digest(size: int, part_size: int = 16 * MIB) -> str:
    """What the whole file's SHA-256 must be."""
    hash_ = hashlib.sha256()
    for part in range(1, -(-size // part_size) + 1):
        for block in part_bytes(part, min(part_size, size - (part - 1) * part_size)):
            hash_.update(block)
    return hash_.hexdigest()


def environment(scratch: Path) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    # The embedded profile: what is measured is the server, whatever database this shell names.
    kept = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    return {
        **kept,
        "VAR_DIR": str(scratch),
        "TMPDIR": str(scratch),
        "PORT": port,
        "SITE_URL": f"http://127.0.0.1:{port}",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }


def run_python(environ: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=True
    )
    return done.stdout.decode()


def told_by(environ: dict[str, str], call: str) -> dict[str, Any]:
    """What one of the functions below says in a process of its own, which sees the scratch database."""
    code = f"import json; from benchmarks import upload; print(json.dumps(upload.{call}))"
    told: dict[str, Any] = json.loads(run_python(environ, "manage.py", "shell", "--no-imports", "-c", code))
    return told


@contextmanager
def server(environ: dict[str, str]) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--log-level", "warning"]
    running = subprocess.Popen(command, cwd=ROOT, env=environ)
    try:
        for _attempt in range(300):
            try:
                socket.create_connection(("127.0.0.1", int(environ["PORT"])), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait(20)


def prepare() -> dict[str, Any]:
    """In the scratch database: a creator who is signed in, and her bundle."""
    now = timezone.now()
    user = User.objects.create_user("bench@example.org")
    creator = Creator.objects.create(
        name="Bench", slug="bench", reply_to=user.email, created_at=now, approved_at=now
    )
    Staff.objects.create(creator=creator, user=user)
    bundle = Bundle.objects.create(creator=creator, title="Large", created_at=now)
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = "allauth.account.auth_backends.AuthenticationBackend"
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.create()
    return {"slug": creator.slug, "bundle": bundle.pk, "session": session.session_key, "token": "b" * 32}


def check(upload_id: int) -> dict[str, Any]:
    """The worker's part, in a process of its own whose peak memory is told; then the owner holds the file."""
    services.verify_upload(upload_id, now=timezone.now())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    upload = Upload.objects.select_related("file__blob", "bundle").get(pk=upload_id)
    assert upload.file is not None
    Upload.objects.exclude(pk=upload_id).delete()
    version = services.seal_version(upload.bundle, now=timezone.now())
    services.add_holdings(
        User.objects.values_list("pk", flat=True),
        versions=[version],
        origin_key="bench",
        title="Bench",
        group_name="",
        given_at=timezone.now(),
    )
    return {"sha256": upload.file.blob.sha256, "peak": peak, "file": upload.file.pk}

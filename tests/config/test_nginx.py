"""deploy/nginx.conf as Debian's nginx runs it, before the real gunicorn: slow clients, sizes, files, logs."""

import hashlib
import http.client
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.logs import LINKS
from library.services.uploads import PART_SIZE

ROOT = Path(__file__).parent.parent.parent
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
HOST = "gifts.example.org"
CONTENT = bytes(range(256)) * 8

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light"),
]

# What the tests need to be there: a person, signed in, who holds a file.
SCENE = """
import django
django.setup()
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone
from accounts.models import User
from library import services
from tests import factories

member = factories.UserFactory.create(email="mia@example.org")
bundle = factories.BundleFactory.create(files=0, files__open=True)
file = factories.add_file(bundle.versions.get(), "dragon.stl", bytes(range(256)) * 8)
version = services.seal_version(bundle, now=timezone.now())
services.add_holdings(User.objects.filter(pk=member.pk).values_list("pk", flat=True), versions=[version],
    origin_key="release:1", title="March", group_name="Patrons", given_at=timezone.now())
session = SessionStore()
session.update({SESSION_KEY: str(member.pk), HASH_SESSION_KEY: member.get_session_auth_hash(),
    BACKEND_SESSION_KEY: "allauth.account.auth_backends.AuthenticationBackend"})
session.save()
print(session.session_key, file.pk)
"""


@dataclass(frozen=True)
class Front:
    """The site as the world reaches it."""

    port: int
    plain_port: int
    folder: Path
    session: str
    file: int

    def connect(self, person: int = 1, seconds: float = 20) -> http.client.HTTPSConnection:
        """As the `person`th visitor: each has an address of their own on this machine."""
        trusting = ssl._create_unverified_context()
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=seconds, context=trusting, source_address=(f"127.0.0.{person}", 0)
        )

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        person: int = 1,
        **headers: str,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self.connect(person)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, {"Host": HOST, **named})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def slow(self, person: int, words: str) -> ssl.SSLSocket:
        """Somebody who sends `words` and then nothing more."""
        raw = socket.create_connection(
            ("127.0.0.1", self.port), timeout=20, source_address=(f"127.0.0.{person}", 0)
        )
        secure = ssl._create_unverified_context().wrap_socket(raw, server_hostname=HOST)
        secure.sendall(words.encode())
        return secure

    @property
    def log(self) -> str:
        return (self.folder / "largesse.access.log").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def site_of(folder: Path, port: int, plain: int, app: int) -> str:
    """Our file with this machine's ports and folders, and nothing else changed."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for ours, here in (
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        (f"/etc/letsencrypt/live/{HOST}/fullchain.pem", f"{folder}/cert.pem"),
        (f"/etc/letsencrypt/live/{HOST}/privkey.pem", f"{folder}/key.pem"),
        ("/var/log/nginx/", f"{folder}/"),
        ("/srv/largesse-media/", f"{folder}/media/"),
        ("127.0.0.1:8000", f"127.0.0.1:{app}"),
    ):
        assert ours in text, ours
        text = text.replace(ours, here)
    return text


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not pytest's own, which nobody else may enter."""
    with tempfile.TemporaryDirectory(prefix="largesse-nginx-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def front(folder: Path) -> Iterator[Front]:
    port, plain, app = free_port(), free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "config.settings",
        "SITE_URL": f"https://{HOST}", "SECRET_KEY": secrets.token_hex(32), "TICKET_KEY": secrets.token_hex(32),
        "BEHIND_PROXY": "true", "PORT": str(app), "EMAIL_URL": "smtp://127.0.0.1:9", "LOG_LEVEL": "ERROR",
        "VAR_DIR": str(folder / "var"), "MEDIA_DIR": str(folder / "media"), "X_ACCEL_PREFIX": "/protected/",
        "STATIC_ROOT": str(folder / "static"), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    for arguments in (
        ["manage.py", "migrate", "-v", "0"],
        ["manage.py", "createcachetable"],
        ["manage.py", "collectstatic", "--noinput", "-v", "0"],
    ):
        subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)
    made = subprocess.run(
        [sys.executable, "-c", SCENE], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    session, file = made.stdout.split()
    # nginx's own user reads the files, as a server's www-data does.
    folder.chmod(0o755)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "site.conf").write_text(site_of(folder, port, plain, app))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; worker_processes 1; error_log {folder}/start.log;"
        f"events {{ worker_connections 768; }} http {{ {temporary} include {folder}/site.conf; }}"
    )
    assert NGINX
    gunicorn = subprocess.Popen(
        [str(Path(sys.executable).with_name("gunicorn")), "config.wsgi"], cwd=ROOT, env=environment
    )
    nginx = subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf"), "-e", str(folder / "start.log")])
    found = Front(port, plain, folder, session, int(file))
    try:
        until = time.monotonic() + 90
        while True:
            try:
                if found.ask("/healthz")[0].status == 200:
                    break
            except OSError:
                pass
            assert nginx.poll() is None, (folder / "start.log").read_text()
            assert gunicorn.poll() is None
            assert time.monotonic() < until
            time.sleep(0.3)
        yield found
    finally:
        for process in (nginx, gunicorn):
            process.terminate()
        for process in (nginx, gunicorn):
            process.wait(30)


def held_up(front: Front, words: str, number: int, persons: int) -> list[ssl.SSLSocket]:
    return [front.slow(10 + one % persons, words) for one in range(number)]


FORM = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nemail="
# With these Django has to read the form before it can refuse it.
COOKIES = f"Origin: https://{HOST}\r\nCookie: __Host-csrftoken={'a' * 32}; __Host-sessionid=x\r\n"


@pytest.mark.parametrize(
    "words",
    [
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ",
        f"POST /accounts/login/code/ HTTP/1.1\r\nHost: {HOST}\r\n{COOKIES}{FORM}",
        f"POST /studio/a/groups/1/import/ HTTP/1.1\r\nHost: {HOST}\r\n{COOKIES}{FORM}",
        f"POST /studio/a/uploads/1/parts/1/ HTTP/1.1\r\nHost: {HOST}\r\n{COOKIES}{FORM}",
        f"PUT /studio/a/uploads/1/parts/1/ HTTP/1.1\r\nHost: {HOST}\r\n{COOKIES}{FORM}",
    ],
)
def test_a_hundred_and_fifty_slow_connections_shut_nobody_out(front: Front, words: str) -> None:
    slow = held_up(front, words, 150, persons=20)
    try:
        begin = time.monotonic()
        answer, _body = front.ask("/accounts/login/")
        assert answer.status == 200
        assert time.monotonic() - begin < 8
    finally:
        for one in slow:
            one.close()


def test_one_address_holds_only_so_many_at_once(front: Front) -> None:
    words = f"POST /accounts/login/code/ HTTP/1.1\r\nHost: {HOST}\r\n{FORM}"
    slow = held_up(front, words, 130, persons=1)
    try:
        answer, _body = front.ask("/accounts/login/", person=10)
        assert answer.status == 429
        assert front.ask("/accounts/login/", person=11)[0].status == 200
    finally:
        for one in slow:
            one.close()


@pytest.mark.parametrize(
    ("path", "promised"),
    [
        ("/accounts/login/code/", 32),
        ("/studio/a/groups/1/import/", 257),
        ("/studio/a/bundles/1/files/", 257),
    ],
)
def test_what_is_promised_fits_and_no_more(front: Front, path: str, promised: int) -> None:
    """Said by its length alone: nginx refuses what is too long before it comes."""
    for size, refused in ((promised, False), (promised + 32, True)):
        words = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size * 1024**2}\r\n\r\n"
        one = front.slow(1, words)
        one.settimeout(2)
        try:
            said = one.recv(100)
        except TimeoutError:
            said = b""
        finally:
            one.close()
        assert (b" 413 " in said) == refused, said


def test_a_part_goes_straight_through_for_whoever_is_signed_in(front: Front) -> None:
    path, part = "/studio/a/uploads/1/parts/1/", b"x" * PART_SIZE
    assert front.ask(path, method="PUT", body=b"x")[0].status == 403
    cookie = f"__Host-sessionid={front.session}"
    assert front.ask(path, method="POST", body=b"x", Cookie=cookie)[0].status == 405
    # Ours to refuse, and it does: there is no such studio, or the form's token is missing.
    answer, page = front.ask(path, method="PUT", body=part, Cookie=cookie, Referer=f"https://{HOST}/")
    assert answer.status in {403, 404}
    assert b"site-header" in page


def test_a_file_that_nginx_sends_is_guarded_as_one_that_we_send(front: Front) -> None:
    path, cookie = f"/library/files/{front.file}/", f"__Host-sessionid={front.session}"
    answer, body = front.ask(path, Cookie=cookie)
    assert answer.status == 200
    assert body == CONTENT
    etag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    for name, value in (
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "sandbox"),
        ("Strict-Transport-Security", "max-age=31536000"),
        ("Referrer-Policy", "same-origin"),
        ("ETag", etag),
        ("Content-Disposition", 'attachment; filename="dragon.stl"'),
        ("Accept-Ranges", "bytes"),
        ("Content-Length", str(len(CONTENT))),
    ):
        # nginx says by itself that it takes ranges; once more does no harm, another value would.
        assert set(answer.headers.get_all(name) or []) == {value}
    assert "private" in answer.headers["Cache-Control"]
    assert answer.headers["Last-Modified"] is None
    answer, body = front.ask(path, Cookie=cookie, Range="bytes=5-9", If_Range=etag)
    assert (answer.status, body) == (206, CONTENT[5:10])
    assert answer.headers["Content-Range"] == f"bytes 5-9/{len(CONTENT)}"
    assert front.ask(path, Cookie=cookie, Range="bytes=5-9", If_Range='"other"')[0].status == 200
    assert front.ask(path, Cookie=cookie, If_None_Match=etag)[0].status == 304
    assert front.ask(path)[0].status == 302


def test_the_files_have_no_other_way(front: Front) -> None:
    blobs = [
        str(path.relative_to(front.folder / "media")) for path in (front.folder / "media").rglob("blobs/*/*")
    ]
    assert blobs
    for path in (f"/protected/{blobs[0]}", f"/protected/../protected/{blobs[0]}", "/protected/"):
        assert front.ask(path)[0].status == 404


def test_no_ticket_and_no_question_is_written_down(front: Front) -> None:
    words = [word for word in re.findall(r"[a-z-]+", LINKS) if len(word) > 2]
    assert "redeem" in words
    for word in words:
        front.ask(f"/{word}/AQAtheticket{word}/?q=mia%40example.org", person=3)
    front.ask("/accounts/password/reset/key/1-AQAtheticket/", person=3)
    log = front.log
    assert all(f"/{word}/[ticket]" in log for word in words)
    assert "127.0.0.3" in log
    assert "theticket" not in log
    assert "mia" not in log
    assert "theticket" not in (front.folder / "largesse.error.log").read_text()


def test_our_own_scheme_and_the_clients_address_arrive(front: Front) -> None:
    answer, page = front.ask("/accounts/login/", X_Forwarded_Proto="http", X_Forwarded_For="198.51.100.9")
    assert answer.status == 200, "nginx's word for the scheme stands, not the client's: no way to a loop"
    assert b"csrfmiddlewaretoken" in page
    plain = http.client.HTTPConnection("127.0.0.1", front.plain_port, timeout=20)
    plain.request("GET", "/redeem/x/", headers={"Host": HOST})
    moved = plain.getresponse()
    assert (moved.status, moved.headers["Location"]) == (301, f"https://{HOST}/redeem/x/")
    plain.close()

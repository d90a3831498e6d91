"""A post whose length nobody said, at a real gunicorn with nothing before it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.messaging import posts

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        number = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "VAR_DIR": str(tmp_path_factory.mktemp("var")),
        "PORT": str(number),
        "ANYMAIL_WEBHOOK_SECRET": posts.SECRETS["WEBHOOK_SECRET"],
    }
    program = Path(sys.executable).with_name("gunicorn")
    server = subprocess.Popen([program, "config.wsgi"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", number), timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.1)
        yield number
    finally:
        server.terminate()
        server.wait(20)


# Amazon's farewell: it is proved and read like the rest, and asks nothing of the database, which is not there.
POST = posts.by_sns("You have chosen to deactivate", kind="UnsubscribeConfirmation")
HEADERS = {**POST.headers, "Content-Type": POST.content_type}


def in_chunks(port: int, *parts: bytes) -> tuple[int, bytes]:
    """What is answered to `parts`, each a chunk."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as line:
        line.request("POST", "/mail/events/amazon_ses/", iter(parts), HEADERS, encode_chunked=True)
        answer = line.getresponse()
        return answer.status, answer.read()


def test_a_post_in_chunks_is_read_as_one_with_its_length(port: int) -> None:
    assert in_chunks(port, POST.body) == (200, b"")
    assert in_chunks(port, *(POST.body[at : at + 100] for at in range(0, len(POST.body), 100))) == (200, b"")
    status, said = in_chunks(port, POST.body[:-1])
    assert (status, bool(said)) == (400, True)


def test_a_post_in_chunks_has_the_same_limit(port: int) -> None:
    status, said = in_chunks(port, *[b" " * 100_000] * 10, b" ")
    assert (status, said) == (413, b"At most 1000000 bytes at once.")
    assert in_chunks(port, POST.body, *[b" " * 100_000] * 9)[0] == 200


def test_chunks_that_are_none_are_refused_in_words(port: int) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as line:
        line.sendall(
            f"POST /mail/events/amazon_ses/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}Transfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\nnonsense\r\n".encode()
        )
        answer = b""
        while part := line.recv(10_000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"It broke off.")

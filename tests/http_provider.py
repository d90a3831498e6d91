"""A mail provider over HTTP in a process of its own: what it took is the truth that tests judge by.

It imports nothing of the application. Each mail it takes is one JSON line, written before the caller hears of it:
`{"at", "api", "to", "message_id", "key", "mark", "id"}`. It speaks enough of
* Resend (`/emails`, `/emails/batch`, Idempotency-Key compared byte by byte, kept `--key-seconds`),
* Postmark (`/email/batch`, `/messages/outbound?metadata_mail=` in one stream),
* Brevo (`/smtp/email`, idempotencyKey),
* Mailgun (`/<domain>/messages`, `/<domain>/events?message-id=`),
* Amazon SES (`/v2/email/outbound-emails`, raw mails; a 400's words are the error's name).

Faults are given at the start (`--fault 'bad*=422:no such mailbox'`) or later by POST to `/faults`. Each is
`<pattern>=<what>[:<words>]`, by the recipient's address. A call is stricken by the first of its mails that has a
fault. `!` at the end of the pattern: once for each address. What:
  a status such as `429` (words: Retry-After), `401`, `422`, `500` … nothing is taken
  `taken-500`, `taken-silence`, `taken-reset` … everything is taken first
  `silence`, `reset`                         … nothing is taken, no answer comes
  `refuse`                                   … that mail alone is refused, in an answer that takes the others
  `slow`                                     … it takes a second (words: seconds), then everything is well
  `taken-kill`                               … everything is taken, and whoever asked is shot before it hears of it
"""

import argparse
import base64
import email
import hashlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from email import policy
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4


@dataclass
class Book:
    """What all calls share."""

    log: int
    key_seconds: float
    faults: list[tuple[str, str, str, bool]] = field(default_factory=list)
    met: set[tuple[str, str]] = field(default_factory=set)
    # By API and key: when it was used, for what, and what was answered.
    keys: dict[tuple[str, str], tuple[float, str, tuple[int, Any]]] = field(default_factory=dict)
    busy: set[tuple[str, str]] = field(default_factory=set)
    # By mark and by Message-ID: what it is called here.
    known: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, mails: list["Mail"], wanted: bool) -> tuple[str, str]:
        """The first fault of a call (`wanted`: of one mail alone) and its words."""
        with self.lock:
            for mail in mails:
                for pattern, what, words, once in self.faults:
                    if not fnmatch(mail.to, pattern) or (what == "refuse") != wanted:
                        continue
                    if once and (mail.to, what) in self.met:
                        continue
                    self.met.add((mail.to, what))
                    return what, words
        return "", ""

    def write(self, api: str, mail: "Mail", key: str) -> str:
        name = str(uuid4())
        line = {
            "at": time.time(),
            "api": api,
            "to": mail.to,
            "message_id": mail.message_id,
            "key": key,
            "mark": mail.mark,
            "id": name,
        }
        with self.lock:
            self.known[mail.mark] = self.known[mail.message_id.strip("<>")] = name
            os.write(self.log, json.dumps(line).encode() + b"\n")
        return name


@dataclass
class Mail:
    to: str
    message_id: str
    mark: str


class Silence(Exception):
    """No answer is given."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    book: Book

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if asked.path == "/messages/outbound":
            stream = query.get("messagestream", "outbound")
            name = self.book.known.get(f"{stream} {query.get('metadata_mail', '')}")
            self._say(200, {"TotalCount": bool(name), "Messages": [{"MessageID": name}] if name else []})
        elif asked.path.endswith("/events"):
            name = self.book.known.get(query.get("message-id", ""))
            # A fault for everybody is what it says of each.
            event = next(
                (words for _all, what, words, _once in self.book.faults if what == "refuse"), "accepted"
            )
            self._say(200, {"items": [{"event": event}] if name else []})
        else:
            self._say(404, {"message": "no such thing"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.path == "/faults":
                self.book.faults[:] = [_fault(text) for text in body.decode().splitlines()]
                self.book.met.clear()
                self._say(200, {})
            elif self.path in ("/emails", "/emails/batch"):
                self._resend(body)
            elif self.path == "/email/batch":
                self._postmark(body)
            elif self.path == "/smtp/email":
                self._brevo(body)
            elif self.path == "/v2/email/outbound-emails":
                self._ses(body)
            elif self.path.endswith("/messages"):
                self._mailgun(body)
            else:
                self._say(404, {"message": "no such thing"})
        except Silence:
            self.close_connection = True

    # --- the providers --------------------------------------------------------------------------------

    def _resend(self, body: bytes) -> None:
        single = self.path == "/emails"
        entries = [json.loads(body)] if single else json.loads(body)
        mails = [_from_headers(entry["to"][0], entry.get("headers", {})) for entry in entries]

        def take(key: str) -> tuple[int, Any]:
            ids: list[dict[str, str]] = []
            errors: list[dict[str, Any]] = []
            for at, mail in enumerate(mails):
                _what, words = self.book.fault([mail], wanted=True)
                if _what:
                    errors.append({"index": at, "message": words})
                else:
                    ids.append({"id": self.book.write("resend", mail, key)})
            return 200, ids[0] if single else {"data": ids, "errors": errors}

        key = self.headers.get("Idempotency-Key", "")
        digest = hashlib.sha256(self.path.encode() + body).hexdigest()
        self._once("resend", key, digest, mails, take, {"name": "invalid_idempotent_request"}, 409)

    def _postmark(self, body: bytes) -> None:
        entries = json.loads(body)
        mails = []
        for entry in entries:
            headers = {one["Name"]: one["Value"] for one in entry.get("Headers", [])}
            mail = _from_headers(entry["To"], headers)
            mail.mark = f"{entry.get('MessageStream', 'outbound')} {entry['Metadata']['mail']}"
            mails.append(mail)

        def take(_key: str) -> tuple[int, Any]:
            said: list[dict[str, Any]] = []
            for mail in mails:
                what, words = self.book.fault([mail], wanted=True)
                code, _space, text = words.partition(" ")
                if what:
                    said.append({"ErrorCode": int(code), "Message": text})
                else:
                    name = self.book.write("postmark", mail, "")
                    said.append({"ErrorCode": 0, "Message": "OK", "MessageID": name, "To": mail.to})
            return 200, said

        self._once("postmark", "", "", mails, take, {}, 409)

    def _brevo(self, body: bytes) -> None:
        entry = json.loads(body)
        headers = entry.get("headers", {})
        mails = [_from_headers(entry["to"][0]["email"], headers)]

        def take(key: str) -> tuple[int, Any]:
            return 201, {"messageId": self.book.write("brevo", mails[0], key)}

        key = headers.get("idempotencyKey", "")
        # Any second call under a key is refused, whatever is in it.
        digest = uuid4().hex
        self._once("brevo", key, digest, mails, take, {"code": "duplicate_parameter"}, 400)

    def _mailgun(self, body: bytes) -> None:
        kind = self.headers["Content-Type"]
        if kind.startswith("multipart/"):
            parsed = email.message_from_bytes(
                f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=policy.default
            )
            fields = {
                str(part.get_param("name", header="content-disposition")): str(part.get_content()).strip()
                for part in parsed.iter_parts()  # type: ignore[attr-defined]
            }
        else:
            fields = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        mails = [_from_headers(fields["to"], {"Message-ID": fields.get("h:Message-Id", "")})]
        mails[0].mark = fields.get("v:mail", "")

        def take(_key: str) -> tuple[int, Any]:
            return 200, {"id": self.book.write("mailgun", mails[0], ""), "message": "Queued. Thank you."}

        self._once("mailgun", "", "", mails, take, {}, 409)

    def _ses(self, body: bytes) -> None:
        raw = base64.b64decode(json.loads(body)["Content"]["Raw"]["Data"])
        parsed = email.message_from_bytes(raw, policy=policy.default)
        mails = [_from_headers(str(parsed["To"]), {"Message-ID": str(parsed["Message-ID"])})]

        def take(_key: str) -> tuple[int, Any]:
            return 200, {"MessageId": self.book.write("ses", mails[0], "")}

        self._once("ses", "", "", mails, take, {}, 409)

    # --- what they share ------------------------------------------------------------------------------

    def _once(
        self,
        api: str,
        key: str,
        digest: str,
        mails: list[Mail],
        take: Any,
        conflict: dict[str, str],
        status: int,
    ) -> None:
        """A key that was used answers as it did; with another body, with `conflict`. Faults come before and after."""
        if (told := self._replayed(api, key, digest, conflict, status)) is not None:
            self._say(*told)
            return
        what, words = self.book.fault(mails, wanted=False)
        try:
            if what and not what.startswith(("taken-", "slow")):
                self._strike(what, words)
                return
            if what == "slow":
                time.sleep(float(words or 1))
            answer = take(key)
            if key:
                with self.book.lock:
                    self.book.keys[api, key] = (time.monotonic(), digest, answer)
        finally:
            with self.book.lock:
                self.book.busy.discard((api, key))
        if what.startswith("taken-"):
            self._strike(what.removeprefix("taken-"), words)
            return
        self._say(*answer)

    def _replayed(
        self, api: str, key: str, digest: str, conflict: dict[str, str], status: int
    ) -> tuple[int, Any] | None:
        if not key:
            return None
        with self.book.lock:
            if (api, key) in self.book.busy:
                return 409, {"statusCode": 409, "name": "concurrent_idempotent_requests", "message": "busy"}
            used = self.book.keys.get((api, key))
            if used and time.monotonic() - used[0] < self.book.key_seconds:
                if used[1] == digest:
                    return used[2]
                return status, {"statusCode": status, "message": "same key, other payload", **conflict}
            self.book.busy.add((api, key))
        return None

    def _strike(self, what: str, words: str) -> None:
        if what == "kill":
            _shoot(self.client_address[1])
        if what in ("silence", "kill"):
            self.connection.settimeout(60)
            try:
                while self.connection.recv(1024):
                    pass
            except OSError:
                pass
            raise Silence
        if what == "reset":
            # No lingering: the caller sees a reset, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            raise Silence
        headers = {"Retry-After": words} if what == "429" and words else {}
        if self.path.startswith("/v2/") and words:
            headers = {"x-amzn-ErrorType": words}
        self._say(int(what), {"statusCode": int(what), "message": words or what}, headers)

    def _say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)


def _from_headers(to: str, headers: dict[str, str]) -> Mail:
    found = {name.lower(): value for name, value in headers.items()}
    message_id = found.get("message-id", "")
    address = re.search(r"<([^>]*)>", to)
    return Mail(address[1] if address else to, message_id, message_id.strip("<>").partition("@")[0])


def _shoot(port: int) -> None:
    """Kills the process at the other end of a connection from `port` on this machine."""
    import psutil  # noqa: PLC0415 – of use to a chaos run only

    for connection in psutil.net_connections("tcp4"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            os.kill(connection.pid, signal.SIGKILL)
            return


def _fault(text: str) -> tuple[str, str, str, bool]:
    pattern, _equals, rest = text.partition("=")
    what, _colon, words = rest.partition(":")
    if not what:
        raise SystemExit(f"no such fault: {text}")
    return unquote(pattern.removesuffix("!")), what, words, pattern.endswith("!")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 500

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was shot, or torn off by a fault, is no error here."""


class HttpProvider:
    """The provider as a test uses it: started on entering, ended on leaving."""

    def __init__(self, folder: Path, *, faults: list[str] | None = None, key_seconds: float = 86_400) -> None:
        self.log = folder / "http-mails.jsonl"
        self._read_from = 0
        self._command = [
            sys.executable,
            __file__,
            "--log",
            str(self.log),
            "--key-seconds",
            str(key_seconds),
        ]
        for fault in faults or []:
            self._command += ["--fault", fault]

    def __enter__(self) -> "HttpProvider":
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()

    def strike(self, *faults: str) -> None:
        """From now on these faults and no others."""
        request = urllib.request.Request(f"{self.url}faults", "\n".join(faults).encode())
        with urllib.request.urlopen(request, timeout=10):
            pass

    def begin(self) -> None:
        """As if it had taken nothing yet, and without faults."""
        self._read_from = self.log.stat().st_size
        self.strike()

    def mails(self) -> list[dict[str, Any]]:
        """What was taken, in order."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_bytes()[self._read_from :].splitlines()]

    def taken(self) -> list[str]:
        """To whom, in order."""
        return [mail["to"] for mail in self.mails()]


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--log", type=Path, required=True)
    options.add_argument("--key-seconds", type=float, default=86_400)
    options.add_argument("--fault", action="append", default=[])
    chosen = options.parse_args()
    Handler.book = Book(
        os.open(chosen.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644),
        chosen.key_seconds,
        [_fault(text) for text in chosen.fault],
    )
    server = Server(("127.0.0.1", chosen.port), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()

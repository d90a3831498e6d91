"""A recording SMTP server in a process of its own: what it took is the truth that tests judge by.

It imports nothing of the application. Each mail it takes is one JSON line, written before the sender hears of it:
`{"at", "from", "to", "message_id", "sha256", "size"}`. With `--raw DIR` the mail itself is kept as `<sha256>.eml`.

Faults by the recipient's address, at `mail` by the sender's (`--fault 'bad*=rcpt:550 5.1.1 no such user'`, may be given many times). Where:
`mail`, `rcpt`, `data`, `content` (while the mail comes in, nothing is taken) and `dot` (after it came; nothing is
taken) and `taken` (it is recorded first). What: a reply such as `451 later`, `silence`, or `reset` (the connection
is torn down). `!` at the end of the pattern: only the first time for each address.

Like a relay it hangs up on who says nothing for long (`--idle SECONDS`). `--orders DIR`: whenever a file named `taken`
lies there, it is removed and the process whose mail was just recorded is shot before it hears of it.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from fnmatch import translate
from pathlib import Path
from types import TracebackType
from typing import Any

FAULTS_AT = ("mail", "rcpt", "data", "content", "dot", "taken")


class Book:
    """What all connections share: the log, the kept mails, the faults."""

    def __init__(
        self, log: Path, raw: Path | None, faults: list[str], password: str, orders: Path | None = None
    ) -> None:
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.raw = raw
        self.password = password
        self.order = orders / "taken" if orders else None
        self.sessions: set[Session] = set()
        self.faults: dict[str, list[tuple[re.Pattern[str], str, bool]]] = {at: [] for at in FAULTS_AT}
        for text in faults:
            pattern, at, what, once = _fault(text)
            self.faults[at].append((re.compile(translate(pattern)), what, once))
        self._met: set[tuple[str, str]] = set()

    def fault(self, at: str, address: str) -> str:
        for pattern, what, once in self.faults[at]:
            if pattern.match(address):
                if once and (address, at) in self._met:
                    continue
                self._met.add((address, at))
                return what
        return ""

    def write(self, sender: str, to: str, mail: bytes) -> None:
        digest = hashlib.sha256(mail).hexdigest()
        if self.raw:
            (self.raw / f"{digest}.eml").write_bytes(mail)
        found = _MESSAGE_ID.search(mail, 0, mail.find(b"\r\n\r\n") + 2)
        line = {
            "at": time.time(),
            "from": sender,
            "to": to,
            "message_id": found[1].decode("utf-8", "replace").strip() if found else "",
            "sha256": digest,
            "size": len(mail),
        }
        os.write(self.log, json.dumps(line).encode() + b"\n")

    def ordered_to_shoot(self) -> bool:
        if self.order is None:
            return False
        try:
            self.order.unlink()
        except FileNotFoundError:
            return False
        return True

    def hang_up_on_the_idle(self, seconds: float) -> None:
        before = time.monotonic() - seconds
        for session in [session for session in self.sessions if session.heard_at < before]:
            session.hang_up()


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.buffer = bytearray()
        self.in_data = self.mute = self.receives = False
        self.sender = self.recipient = ""
        self.heard_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.book.sessions.add(self)
        self._say("220 recorder ready")

    def connection_lost(self, exc: Exception | None) -> None:
        self.book.sessions.discard(self)

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        seen = max(0, len(self.buffer) - 4)
        self.buffer += data
        while self.buffer and not self.mute:
            if self.in_data:
                if self._strike("content"):
                    return
                end = self.buffer.find(b"\r\n.\r\n", seen)
                if end < 0:
                    return
                mail = bytes(self.buffer[: end + 2]).replace(b"\r\n..", b"\r\n.")
                del self.buffer[: end + 5]
                seen, self.in_data = 0, False
                self._take(mail)
                continue
            end = self.buffer.find(b"\r\n")
            if end < 0:
                return
            line = self.buffer[:end].decode("utf-8", "replace")
            del self.buffer[: end + 2]
            seen = 0
            self._obey(line)

    def hang_up(self) -> None:
        self._say("421 4.4.2 you have been silent for too long")
        self.mute = True
        self.transport.close()

    def _obey(self, line: str) -> None:
        verb = line[:4].upper()
        if verb == "MAIL":
            self.sender = self.recipient = _address(line)
            self.receives = False
            if not self._strike("mail"):
                self._say("250 ok")
        elif verb == "RCPT":
            self.recipient = _address(line)
            if not self._strike("rcpt"):
                self.receives = True
                self._say("250 ok")
        elif verb == "DATA":
            # Whoever sends in one go hears that the content has nowhere to go.
            if not self.receives:
                self._say("554 5.5.1 no valid recipients")
            elif not self._strike("data"):
                self.in_data = True
                self._say("354 go on")
        elif verb == "EHLO":
            sign_in = "250-AUTH PLAIN\r\n" if self.book.password else ""
            self._say(f"250-recorder\r\n250-8BITMIME\r\n250-PIPELINING\r\n{sign_in}250 SIZE 99000000")
        elif verb == "AUTH":
            given = base64.b64decode(line.rsplit(maxsplit=1)[-1]).split(b"\0")[-1].decode()
            self._say("235 come in" if given == self.book.password else "535 5.7.8 wrong password")
        elif verb == "QUIT":
            self._say("221 bye")
            self.transport.close()
        else:
            self._say("250 ok")

    def _take(self, mail: bytes) -> None:
        self.receives = False
        if self._strike("dot"):
            return
        self.book.write(self.sender, self.recipient, mail)
        if self.book.ordered_to_shoot():
            _shoot(self.transport.get_extra_info("peername")[1])
            self.mute = True
        elif not self._strike("taken"):
            self._say("250 2.0.0 ok: queued")

    def _strike(self, at: str) -> bool:
        if not self.book.faults[at]:
            return False
        what = self.book.fault(at, self.recipient)
        if what == "silence":
            self.mute = True
        elif what == "reset":
            self.mute = True
            connection = self.transport.get_extra_info("socket")
            # No lingering: the sender sees a reset, not an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif what:
            self._say(what)
        return bool(what)

    def _say(self, text: str) -> None:
        self.transport.write(text.encode() + b"\r\n")


_MESSAGE_ID = re.compile(rb"^message-id:([^\r]*)", re.IGNORECASE | re.MULTILINE)


def _address(line: str) -> str:
    return line[line.find("<") + 1 : line.find(">")]


def _shoot(port: int) -> None:
    """Kills the process at the other end of a connection from `port` on this machine."""
    import psutil  # noqa: PLC0415 – of use to a chaos run only

    for connection in psutil.net_connections("tcp4"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            os.kill(connection.pid, signal.SIGKILL)
            return


def _fault(text: str) -> tuple[str, str, str, bool]:
    pattern, _equals, rest = text.partition("=")
    where, _colon, what = rest.partition(":")
    if where not in FAULTS_AT or not what:
        raise SystemExit(f"no such fault: {text}")
    return pattern.removesuffix("!"), where, what, pattern.endswith("!")


async def serve(book: Book, port: int, idle: float) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Session(book), "127.0.0.1", port, backlog=500
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        await asyncio.sleep(min(idle / 10, 1))
        book.hang_up_on_the_idle(idle)


class Recorder:
    """The server as a test uses it: started on entering, ended on leaving."""

    def __init__(
        self,
        folder: Path,
        *,
        faults: list[str] | None = None,
        raw: bool = False,
        port: int = 0,
        password: str = "",
        idle: float = 300,
        orders: Path | None = None,
    ) -> None:
        self.log = folder / "mails.jsonl"
        self.raw = folder / "raw" if raw else None
        self._command = [
            sys.executable,
            __file__,
            "--log",
            str(self.log),
            "--port",
            str(port),
            "--password",
            password,
            "--idle",
            str(idle),
        ]
        if orders:
            self._command += ["--orders", str(orders)]
        for fault in faults or []:
            self._command += ["--fault", fault]
        if self.raw:
            self.raw.mkdir(exist_ok=True)
            self._command += ["--raw", str(self.raw)]
        self.port = port

    def __enter__(self) -> "Recorder":
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()

    def mails(self) -> list[dict[str, Any]]:
        """What was taken, in order."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def raw_of(self, mail: dict[str, Any]) -> bytes:
        assert self.raw
        return (self.raw / f"{mail['sha256']}.eml").read_bytes()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--log", type=Path, required=True)
    options.add_argument("--raw", type=Path)
    options.add_argument("--fault", action="append", default=[])
    options.add_argument("--password", default="")
    options.add_argument("--idle", type=float, default=300)
    options.add_argument("--orders", type=Path)
    chosen = options.parse_args()
    kept = Book(chosen.log, chosen.raw, chosen.fault, chosen.password, chosen.orders)
    asyncio.run(serve(kept, chosen.port, chosen.idle))

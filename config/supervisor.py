"""Several processes as one: started together, watched, started again when they die, stopped without an orphan."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

# A part that dies this often within a minute will not live: everything ends and its last words are shown.
DEATHS_A_MINUTE = 4
LAST_WORDS = 15
# Warm shutdown: a worker may finish the mail it holds. What is cut off is found again by its lease.
SECONDS_TO_STOP = 15.0
PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec nothing more than a call is safe.
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class Part:
    """One process that is kept alive, and what it said last."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[str] | None = None
    deaths: list[float] = field(default_factory=list)
    start_at: float = 0.0
    words: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_WORDS))
    ear: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Hopeless(Exception):
    """A part died again and again."""

    def __init__(self, part: Part) -> None:
        said = "\n".join(f"  {line}" for line in part.words) or "  (nothing)"
        super().__init__(f"{part.name} keeps dying. The last it said:\n{said}")


def supervise(
    parts: Sequence[Part],
    *,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    started: Callable[[], None],
) -> None:
    """Runs `parts` until SIGINT, SIGTERM or SIGHUP, calls `started` once all were begun; no process is left behind.

    A part that dies is started again after 1, 2, 4 … seconds. A second signal stops at once. Raises Hopeless.
    """
    stopping = threading.Event()
    hurried = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        (hurried if stopping.is_set() else stopping).set()

    before = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        for part in parts:
            start(part, environ, say)
        threading.Thread(target=started, daemon=True).start()
        while not stopping.wait(0.2):
            for part in parts:
                look_after(part, environ, say)
    finally:
        end(parts, hurried, say)
        for number, handler in before.items():
            signal.signal(number, handler)


def start(part: Part, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    # In a session of its own a part does not hear the terminal's Ctrl-C: we stop it, in our order.
    part.process = subprocess.Popen(  # noqa: S603 – our own commands
        part.command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=die_with_parent if LIBC else None,  # noqa: PLW1509 – one call, its library loaded before
    )
    part.ear = threading.Thread(target=listen, args=(part, part.process.stdout, say), daemon=True)
    part.ear.start()


def die_with_parent() -> None:
    """Linux: even if we are killed without a word, our children do not stay behind."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def listen(part: Part, stream: IO[str] | None, say: Callable[[str], None]) -> None:
    for line in filter(None, map(str.rstrip, stream or ())):
        part.words.append(line)
        say(f"{part.name:>6} │ {line}")


def look_after(part: Part, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    if part.runs:
        return
    now = time.monotonic()
    if part.process is not None:
        code, part.process = part.process.returncode, None
        part.deaths = [*(at for at in part.deaths if at > now - 60), now]
        if len(part.deaths) >= DEATHS_A_MINUTE:
            raise Hopeless(part)
        wait = 2.0 ** (len(part.deaths) - 1)
        part.start_at = now + wait
        say(f"{part.name} ended ({ended(code)}); it starts again in {wait:.0f} s.")
    elif now >= part.start_at:
        start(part, environ, say)


def ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def end(parts: Sequence[Part], hurried: threading.Event, say: Callable[[str], None]) -> None:
    """Asks every part to stop, then makes it: the first started is asked last."""
    living = [part for part in reversed(parts) if part.runs]
    for part in living:
        tell(part, signal.SIGTERM)
    until = time.monotonic() + SECONDS_TO_STOP
    while any(part.runs for part in living) and time.monotonic() < until and not hurried.is_set():
        time.sleep(0.05)
    for part in parts:
        if part.process is not None:
            # The whole session, so that a child's child goes too; to one that is gone this is nothing.
            tell(part, signal.SIGKILL)
            part.process.wait()
        if part.ear is not None:
            part.ear.join(timeout=2)


def tell(part: Part, number: signal.Signals) -> None:
    if part.process is None:
        return
    try:
        if number == signal.SIGKILL:
            os.killpg(part.process.pid, number)
        else:
            part.process.send_signal(number)
    except ProcessLookupError:
        pass

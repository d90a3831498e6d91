"""Where a benchmark's mails go: Debian's smtp-sink, which throws them away and counts them."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.recorder import Recorder


@contextmanager
def sink() -> Iterator[tuple[int, Callable[[], int]]]:
    """A mail server on this machine: its port, and what tells how many mails it has taken so far."""
    program = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin:/bin")
    with tempfile.TemporaryDirectory() as folder:
        if program is None:
            print(
                "smtp-sink is not installed (apt-get install postfix): a slower one of ours", file=sys.stderr
            )
            with Recorder(Path(folder)) as recorder:
                yield recorder.port, lambda: len(recorder.mails())
            return
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        counter = Path(folder, "count")
        with counter.open("wb") as out:
            # As root it wants to know whom to be.
            somebody = ["-u", "nobody"] if os.geteuid() == 0 else []
            running = subprocess.Popen([program, *somebody, "-c", f"127.0.0.1:{port}", "1000"], stdout=out)
            try:
                _wait_for(port)
                yield port, lambda: _counted(counter)
            finally:
                running.terminate()
                running.wait(10)


def _wait_for(port: int) -> None:
    for _attempt in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the sink does not answer")


def _counted(counter: Path) -> int:
    """It writes its counters over and over: sessions, quits, mails."""
    with counter.open("rb") as file:
        file.seek(max(0, counter.stat().st_size - 200))
        found = re.findall(rb"mesg=(\d+)", file.read())
    return int(found[-1]) if found else 0

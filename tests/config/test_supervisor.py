"""Several processes as one: watched, started again, and never left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest

PARENT = """
import sys
from config.supervisor import Hopeless, Part, supervise
parts = [Part("one", [sys.executable, "-u", "-c", {one!r}]), Part("two", [sys.executable, "-u", "-c", {two!r}])]
def say(line):
    # One write: `print` makes two, and two parts that speak at once would share a line.
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()
try:
    supervise(parts, environ={{}}, say=say, started=lambda: say("up"))
except Hopeless as hopeless:
    sys.exit(str(hopeless))
print("stopped", flush=True)
"""
STAYS = "import os, time; print('pid', os.getpid()); time.sleep(600)"
DEAF = (
    "import os, signal, time; signal.signal(15, signal.SIG_IGN); print('pid', os.getpid()); time.sleep(600)"
)


def begin(one: str, two: str = STAYS) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT.format(one=one, two=two)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
        start_new_session=True,
    )


def hear(process: subprocess.Popen[str], times: int, word: str = "pid") -> dict[str, str]:
    """The last word each part said in so many lines, by the part's name: which speaks first is chance."""
    assert process.stdout
    heard: dict[str, str] = {}
    patience = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
    patience.start()
    for line in process.stdout:
        if word in line:
            heard[line.split()[0]] = line.split()[-1]
            times -= 1
            if not times:
                break
    patience.cancel()
    assert not times, "it ended, or said something else for a minute"
    return heard


def is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def await_end(pids: Collection[str]) -> None:
    until = time.monotonic() + 60
    while any(map(is_alive, pids)):
        assert time.monotonic() < until, f"still there: {pids}"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_group_stops_everything_without_an_orphan_or_a_traceback(
    number: signal.Signals,
) -> None:
    process = begin(STAYS)
    pids = hear(process, 2).values()
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.split()[-1] == "stopped"
    assert "Traceback" not in said
    await_end(pids)


def test_a_second_signal_does_not_wait_for_a_part_that_will_not_stop() -> None:
    process = begin(DEAF)
    pids = hear(process, 2).values()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    await_end(pids)


def test_a_part_that_dies_is_reported_and_started_again() -> None:
    process = begin(STAYS)
    first = hear(process, 2)
    os.kill(int(first["one"]), signal.SIGKILL)
    hear(process, 1, word="one ended (signal SIGKILL)")
    again = hear(process, 1)["one"]
    assert again not in first.values()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    await_end([*first.values(), again])


def test_a_part_that_keeps_dying_ends_everything_with_its_last_words() -> None:
    impatient = textwrap.dedent("""
        import config.supervisor
        config.supervisor.DEATHS_A_MINUTE = 2
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", impatient + PARENT.format(one="print('no such table'); exit(3)", two=STAYS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "one ended (exit code 3)" in said
    assert "one keeps dying. The last it said:\n  no such table" in said
    await_end([line.split()[-1] for line in said.splitlines() if "pid" in line])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_even_a_supervisor_that_was_shot_leaves_nobody_behind() -> None:
    process = begin(STAYS)
    pids = hear(process, 2).values()
    process.kill()
    process.communicate(timeout=60)
    await_end(pids)

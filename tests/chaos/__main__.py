"""`make chaos`: who was promised what has it, once, whatever breaks meanwhile. `--short` for every change.

The last line is a JSON object of what the judge found, with `"holds"`. CHAOS_SEED repeats a run's plan, CHAOS_RECIPIENTS
is its size, CHAOS_ONLY=smtp,http,mark_before,… picks some of its parts, CHAOS_KEEP keeps its folder.
"""

import argparse
import json
import os
import secrets
import signal
import sys
import time
from contextlib import ExitStack

from tests.chaos import runs
from tests.chaos.ground import Postgres, Redis, scratch
from tests.chaos.scene import StoodStill, say


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--short", action="store_true")
    short = options.parse_args().short
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    recipients = int(os.environ.get("CHAOS_RECIPIENTS") or (8_000 if short else 200_000))
    say(f"CHAOS_SEED={seed} CHAOS_RECIPIENTS={recipients}")
    every = runs.parts(seed, recipients, short=short)
    asked = os.environ.get("CHAOS_ONLY")
    parts = {name: every[name] for name in (asked.split(",") if asked else runs.SHORT if short else every)}
    # Asked to go, it takes along what it started.
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit(143))
    with scratch() as folder, ExitStack() as ends:
        ground = runs.Ground(folder, Postgres(folder), Redis(folder))
        ends.callback(ground.stop)
        results = {}
        for name, part in parts.items():
            begun = time.monotonic()
            say(f"=== {name}")
            try:
                found = part(ground)
            except StoodStill as stood:
                found = {"faults": 0, "holds": False, "caught": False, "why": [str(stood)]}
            results[name] = {**found, "seconds": round(time.monotonic() - begun)}
            say(json.dumps(results[name]))
    summary = runs.summary(results)
    print(json.dumps({"seed": seed, **summary}), flush=True)  # noqa: T201
    return 0 if summary["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())

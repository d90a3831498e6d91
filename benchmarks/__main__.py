"""`make bench`: every performance figure the README quotes, measured anew. `BENCH=fanout` runs one.

A module here has `run()`, which yields `{"name", "value", "unit", "goal", "holds"}`; each becomes a line of JSON.
Ratios are of two things measured in turn in one run, so that they hold on any machine. Exit code 1 when one does not.
"""

import importlib
import json
import os
import pkgutil
import sys
from pathlib import Path

import django


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    names = sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [importlib.import_module(f"benchmarks.{name}") for name in names if not name.startswith("__")]
    chosen = {module.__name__.rpartition(".")[2]: module for module in modules if hasattr(module, "run")}
    if asked := os.environ.get("BENCH"):
        if asked not in chosen:
            print(f"BENCH={asked} is none of: {', '.join(chosen)}", file=sys.stderr)
            return 2
        chosen = {asked: chosen[asked]}
    holds = True
    for module in chosen.values():
        for result in module.run():
            print(json.dumps(result), flush=True)
            holds = holds and result["holds"]
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

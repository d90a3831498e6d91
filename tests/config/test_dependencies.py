"""What a server installs is enough: no room imports a tool of the developers."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

IMPORT_ALL = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in TOOLS:
            raise ModuleNotFoundError(f"{name} is not installed on a server", name=name)

TOOLS = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Absent())
import django
django.setup()
import importlib, pathlib
for room in sys.argv[2].split(","):
    for path in pathlib.Path(room).rglob("*.py"):
        if "migrations" not in path.parts:
            importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
"""


def on_a_server() -> set[str]:
    """Every distribution that the lock installs without the developers' group."""
    lock = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    found: set[str] = set()
    wanted: list[tuple[str, tuple[str, ...]]] = [("largesse", ())]
    while wanted:
        name, extras = wanted.pop()
        package = lock[name]
        needs = package.get("dependencies", []) + [
            need for extra in extras for need in package.get("optional-dependencies", {}).get(extra, [])
        ]
        if name not in found or extras:
            found.add(name)
            wanted += [(need["name"], tuple(need.get("extra", ()))) for need in needs]
    return found


def test_every_module_imports_without_the_developers_tools(tmp_path: Path) -> None:
    server = on_a_server()
    tools = {
        module
        for module, names in packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in names} & server
    }
    assert {"pytest", "factory"} <= tools
    rooms = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["packages"]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(tools), ",".join(rooms)],
        cwd=ROOT,
        env={"VAR_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

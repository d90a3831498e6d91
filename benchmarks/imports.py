"""A Patreon export of 100,000 members: dry run, import, and the same file again. `IMPORT_ROWS` takes another size.

Memory is the peak of this process above what it held before, as the file and every page pass through it. Speed is
held against `bulk_create` of the same contacts, ids and memberships with nothing looked up: the barest import.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
from django.conf import settings
from django.core.files.base import File

from accounts.models import User
from benchmarks.scratch import scratch_database
from groups import services
from groups.imports.mapping import Mapping
from groups.models import Contact, Creator, Group, Import, Membership, OutsideId, Staff
from tests import samples

ROWS = int(os.environ.get("IMPORT_ROWS", "100000"))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MIB = 1024**2
BATCH = 2_000


def run() -> Iterator[dict[str, Any]]:
    with scratch_database("imports"), tempfile.TemporaryDirectory(dir=settings.VAR_DIR) as scratch:
        settings.STORAGES["default"] = {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": scratch},
        }
        path = Path(scratch, "members.csv")
        with path.open("wb") as file:
            file.writelines(export())
        owner = User.objects.create_user("bench@example.org")
        barest = barest_import(make_creator(owner, "barest"))
        group = make_creator(owner, "ours")
        with memory() as growth:
            first = whole_import(group, path, owner)
            again = whole_import(group, path, owner)
        changes = again["changes"]
        yield figure("import_memory_growth", growth[0] / MIB, "MB over idle", growth[0] / MIB <= 128, 128)
        yield figure("import_second_time_changes", changes, "rows", changes == 0, 0)
        ratio = barest / first["seconds"]
        yield figure("import_speed_over_barest_inserts", ratio, "", ratio >= 0.1, 0.1)
        yield figure("import_rows_a_second", ROWS / first["seconds"], "rows/s", True, None)


def figure(name: str, value: float, unit: str, holds: bool, goal: float | None) -> dict[str, Any]:
    return {"name": name, "value": round(value, 2), "unit": unit, "goal": goal, "holds": holds}


def export() -> Iterator[bytes]:
    for start in range(0, ROWS, BATCH):
        people = [samples.patron(number) for number in range(start, min(start + BATCH, ROWS))]
        content = samples.patreon_export(people, samples.OCTOBER)
        yield content if start == 0 else content.partition(b"\n")[2]


def make_creator(owner: User, slug: str) -> Group:
    creator = Creator.objects.create(
        name=slug, slug=slug, reply_to="x@example.net", created_at=NOW, approved_at=NOW
    )
    Staff.objects.create(creator=creator, user=owner)
    main = services.create_group(creator, name="Patrons", kind="patrons", now=NOW)
    for tier in samples.TIERS:
        services.create_group(creator, name=tier, kind="patrons", parent=main, now=NOW)
    return main


def whole_import(group: Group, path: Path, owner: User) -> dict[str, float]:
    begun = perf_counter()
    with path.open("rb") as file:
        run = services.open_import(group, File(file, name=path.name), by=owner, now=NOW)
    services.choose_mapping(run, Mapping.from_json(run.mapping), now=NOW)
    services.check_import(run.pk, now=NOW)
    run.refresh_from_db()
    changes = services.summarise(run).changes
    services.request_apply(run, consent=True, gone_at=None, by=owner, now=NOW)
    services.apply_import(run.pk, now=NOW)
    run.refresh_from_db()
    assert run.state == Import.State.DONE
    assert Membership.objects.filter(group__parent=group).count() == ROWS
    return {"seconds": perf_counter() - begun, "changes": changes}


def barest_import(group: Group) -> float:
    begun = perf_counter()
    for start in range(0, ROWS, BATCH):
        people = [samples.patron(number) for number in range(start, min(start + BATCH, ROWS))]
        contacts = Contact.objects.bulk_create(
            Contact(creator_id=group.creator_id, address_key=one.email, name=one.name, created_at=NOW)
            for one in people
        )
        OutsideId.objects.bulk_create(
            OutsideId(creator_id=group.creator_id, contact=contact, source="patreon", value=one.user_id)
            for contact, one in zip(contacts, people, strict=True)
        )
        Membership.objects.bulk_create(
            Membership(group=group, contact=contact, started_at=NOW, recorded_at=NOW) for contact in contacts
        )
    return perf_counter() - begun


@contextmanager
def memory() -> Iterator[list[float]]:
    """The first entry becomes the peak of this process above what it holds now, in bytes."""
    process, done, growth = psutil.Process(), threading.Event(), [0.0]
    idle = process.memory_info().rss

    def sample() -> None:
        while not done.wait(0.02):
            growth[0] = max(growth[0], process.memory_info().rss - idle)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield growth
    finally:
        done.set()
        thread.join()

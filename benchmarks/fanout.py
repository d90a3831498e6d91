"""Giving a release to a million members, half of them with accounts, and planning its mails, against PostgreSQL's
barest; and against ourselves at ten thousand. `FANOUT_MEMBERS` takes another million.

All sides write the same grants, library entries, holdings and deliveries from the same memberships, each from empty
tables, in turn, in one run. Ours also pays for what makes it safe: pages, cursors, leases, attaching, the last look
for who is missing, the counts, and the chunks.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from django.db.models import Model

from benchmarks import crowd
from benchmarks.scratch import scratch_database
from distribution import services
from distribution.models import Grant, Release
from groups.models import Contact, Membership
from library.models import Holding, LibraryEntry
from messaging.models import Chunk, Delivery, Message
from messaging.services import plan_deliveries

MEMBERS = int(os.environ.get("FANOUT_MEMBERS", "1000000"))
FEW = 10_000
ROUNDS = max(3, int(os.environ.get("FANOUT_ROUNDS", "3")))
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
KEYS = {"release", "contact", "user", "bundle", "entry", "message"}
HOT: list[type[Model]] = [Grant, LibraryEntry, Holding, Delivery]


Step = Callable[[Release, str], None]


@dataclass(frozen=True)
class Side:
    """A way to write it all: grants and what is held first, then the deliveries."""

    give: Step
    plan: Step
    prefix: str = ""


def run() -> Iterator[dict[str, Any]]:
    if connection.vendor != "postgresql":
        yield crowd.told("fanout", None, "skipped: needs PostgreSQL")
        return
    with scratch_database("fanout"):
        release = populate(FEW)
        make_twins()
        sides = {
            "ours": Side(give, plan),
            "raw": Side(raw_giving, raw_planning),
            "twins": Side(raw_giving, raw_planning, prefix="twin_"),
            "bulk_create": Side(bulk_giving, bulk_planning),
        }
        small = median(sum(timed(sides["ours"], release, FEW)) for _round in range(2 * ROUNDS + 1))
        crowd.add_members(release.audience_rows.get().group, first=FEW + 1, last=MEMBERS, now=NOW)
        crowd.settle()
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for at in range(ROUNDS):
            for name, side in sides.items():
                # Far behind, so once is enough of the longest.
                if at == 0 or name != "bulk_create":
                    taken[name].append(timed(side, release, MEMBERS))
    giving = {name: median(first for first, _second in times) for name, times in taken.items()}
    both = {name: median(first + second for first, second in times) for name, times in taken.items()}
    of_raw, of_bare = "of one raw INSERT … SELECT a table", "of raw into keys and uniques only"
    at = f"at {MEMBERS:,} members"
    yield crowd.ratio(f"giving {at}, {of_raw}", giving["raw"] / giving["ours"], 0.85)
    yield crowd.ratio(f"giving {at}, {of_bare}", giving["twins"] / giving["ours"], 0.5)
    yield crowd.ratio(f"giving {at}, over bulk_create", giving["bulk_create"] / giving["ours"], 3.0)
    yield crowd.ratio(f"giving and planning mails {at}, of raw", both["raw"] / both["ours"])
    yield crowd.ratio(f"giving and planning mails {at}, {of_bare}", both["twins"] / both["ours"], 0.5)
    yield crowd.ratio(
        f"giving and planning mails {at}, over bulk_create", both["bulk_create"] / both["ours"], 3.0
    )
    of_few = f"giving and planning mails, a member {at}, of one at {FEW:,}"
    yield crowd.ratio(of_few, both["ours"] / MEMBERS / (small / FEW), 1.5, most=True)
    yield crowd.told(f"giving and planning mails {at}", round(MEMBERS / both["ours"]), "members/s")


def timed(side: Side, release: Release, members: int) -> tuple[float, float]:
    """Seconds for both steps, from empty tables and a settled disk. Every row must be there afterwards."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(map(table, HOT))}, {table(Chunk)}")
        cursor.execute(f"TRUNCATE {', '.join(f'twin_{table(model)}' for model in HOT)}")
        Release.objects.update(state="confirmed", cursor=0, granted=0, held=0, as_of=None, lease_until=None)
        Message.objects.update(
            state="confirmed", done_at=None, cursor=0, planned=0, planned_at=None, lease_until=None
        )
        cursor.execute("CHECKPOINT")
    began = perf_counter()
    side.give(release, side.prefix)
    between = perf_counter()
    side.plan(release, side.prefix)
    ended = perf_counter()
    with connection.cursor() as cursor:
        counts = []
        for model in HOT:
            cursor.execute(f"SELECT count(*) FROM {side.prefix}{table(model)}")
            counts.append(cursor.fetchone()[0])
    if counts != [members, members // 2, members // 2, members]:
        raise AssertionError(f"{side} wrote {counts}")
    return between - began, ended - between


def give(release: Release, _prefix: str) -> None:
    if not services.fan_out_grants(release.pk, now=NOW):
        raise AssertionError("not published")


def plan(release: Release, _prefix: str) -> None:
    if not plan_deliveries(release.messages.get().pk, now=NOW):
        raise AssertionError("not planned")


def raw_giving(release: Release, prefix: str) -> None:
    item = release.items.get()
    grants, entries, holdings, _deliveries = (f"{prefix}{table(model)}" for model in HOT)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {grants} (release_id, contact_id, granted_at)"
            " SELECT DISTINCT %s::bigint, contact_id, %s::timestamptz FROM groups_membership"
            " WHERE group_id IN (SELECT id FROM groups_group) AND started_at <= %s"
            " AND (ended_at IS NULL OR ended_at > %s) ON CONFLICT DO NOTHING",
            [release.pk, NOW, NOW, NOW],
        )
        cursor.execute(
            f"INSERT INTO {entries} (user_id, bundle_id, added_at)"
            f" SELECT account_id, %s, %s FROM {grants} g JOIN groups_contact c ON c.id = g.contact_id"
            " WHERE g.release_id = %s AND account_id IS NOT NULL ON CONFLICT DO NOTHING",
            [item.bundle_id, NOW, release.pk],
        )
        cursor.execute(
            f"INSERT INTO {holdings} (entry_id, version_id, origin_key, title, group_name, given_at)"
            f" SELECT e.id, %s, %s, %s, %s, %s FROM {grants} g JOIN groups_contact c ON c.id = g.contact_id"
            f" JOIN {entries} e ON e.user_id = c.account_id AND e.bundle_id = %s"
            " WHERE g.release_id = %s ON CONFLICT DO NOTHING",
            [
                item.version_id,
                release.origin_key,
                release.title,
                "Patrons",
                NOW,
                item.bundle_id,
                release.pk,
            ],
        )


def raw_planning(release: Release, prefix: str) -> None:
    """The same question for each address, in hand-written joins: suppressed, wants no mail?"""
    grants, _entries, _holdings, deliveries = (f"{prefix}{table(model)}" for model in HOT)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {deliveries} (message_id, grant_id, contact_id, address_key, state, reason)"
            " SELECT %s, g.id, c.id, c.address_key, CASE WHEN s.id IS NOT NULL THEN 'suppressed'"
            " WHEN p.id IS NOT NULL THEN 'skipped' ELSE 'planned' END, CASE WHEN s.id IS NOT NULL THEN 'suppressed'"
            f" WHEN p.id IS NOT NULL THEN 'no_mail' ELSE '' END FROM {grants} g"
            " JOIN groups_contact c ON c.id = g.contact_id LEFT JOIN accounts_suppression s"
            " ON s.address_key = c.address_key AND s.lifted_at IS NULL LEFT JOIN messaging_preference p"
            " ON p.contact_id = c.id AND p.choice = 'nothing' WHERE g.release_id = %s ON CONFLICT DO NOTHING",
            [release.messages.get().pk, release.pk],
        )


def bulk_giving(release: Release, _prefix: str) -> None:
    item = release.items.get()
    members = list(
        Contact.objects.filter(memberships__in=Membership.objects.live(NOW)).only("account_id", "address_key")
    )
    with transaction.atomic():
        Grant.objects.bulk_create(
            [Grant(release=release, contact=contact, granted_at=NOW) for contact in members],
            batch_size=10_000,
        )
        entries = LibraryEntry.objects.bulk_create(
            [
                LibraryEntry(user_id=contact.account_id, bundle_id=item.bundle_id, added_at=NOW)
                for contact in members
                if contact.account_id
            ],
            batch_size=10_000,
        )
        Holding.objects.bulk_create(
            [
                Holding(
                    entry=entry,
                    version=item.version,
                    origin_key=release.origin_key,
                    title=release.title,
                    group_name="Patrons",
                    given_at=NOW,
                )
                for entry in entries
            ],
            batch_size=10_000,
        )


def bulk_planning(release: Release, _prefix: str) -> None:
    grants = Grant.objects.filter(release=release).select_related("contact")
    message = release.messages.get()
    with transaction.atomic():
        Delivery.objects.bulk_create(
            [
                Delivery(
                    message=message,
                    grant=grant,
                    contact=grant.contact,
                    address_key=grant.contact.address_key,
                    state=Delivery.State.PLANNED,
                )
                for grant in grants
            ],
            batch_size=10_000,
        )


def make_twins() -> None:
    """The hot tables again, with nothing but their keys and unique pairs."""
    with connection.cursor() as cursor:
        for model in HOT:
            cursor.execute(
                f"CREATE TABLE twin_{table(model)} (LIKE {table(model)} INCLUDING DEFAULTS INCLUDING IDENTITY)"
            )
            cursor.execute(f"ALTER TABLE twin_{table(model)} ADD PRIMARY KEY (id)")
            for constraint in model._meta.total_unique_constraints:
                columns = ", ".join(f"{name}_id" if name in KEYS else name for name in constraint.fields)
                cursor.execute(f"ALTER TABLE twin_{table(model)} ADD UNIQUE ({columns})")


def populate(members: int) -> Release:
    """A creator with a main group, three sub groups and the members in them, and a confirmed release for all."""
    group = crowd.make_group("forge", members=members, now=NOW)
    message = crowd.make_message(group, crowd.make_bundle(group.creator, now=NOW), body="Hello", now=NOW)
    release = message.release
    release.items.update(version=release.items.get().bundle.versions.get())
    Release.objects.update(state="confirmed", publish_at=NOW, title="October")
    Message.objects.update(state="confirmed", due_at=NOW, request_id=uuid4())
    crowd.settle()
    return Release.objects.get(pk=release.pk)


def table(model: type[Any]) -> str:
    return str(model._meta.db_table)

"""Giving a release to 100,000 members, half of them with accounts, and planning its mails, against PostgreSQL's barest.

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

from accounts.models import User
from benchmarks.scratch import scratch_database
from distribution import services
from distribution.models import Grant, Release, ReleaseAudience, ReleaseItem
from groups.models import Contact, Creator, Group, Membership
from library.models import Bundle, BundleVersion, Holding, LibraryEntry
from messaging.models import Chunk, Delivery, Message
from messaging.services import plan_deliveries

MEMBERS = int(os.environ.get("FANOUT_MEMBERS", "100000"))
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
        yield {
            "name": "fanout",
            "value": None,
            "unit": "skipped: needs PostgreSQL",
            "goal": None,
            "holds": True,
        }
        return
    with scratch_database("fanout"):
        release = populate()
        make_twins()
        sides = {
            "ours": Side(give, plan),
            "raw": Side(raw_giving, raw_planning),
            "twins": Side(raw_giving, raw_planning, prefix="twin_"),
            "bulk_create": Side(bulk_giving, bulk_planning),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _round in range(ROUNDS):
            for name, side in sides.items():
                taken[name].append(timed(side, release))
    giving = {name: median(first for first, _second in times) for name, times in taken.items()}
    both = {name: median(first + second for first, second in times) for name, times in taken.items()}
    yield ratio("giving, of one raw INSERT … SELECT a table", giving["raw"] / giving["ours"], 0.85)
    yield ratio("giving, of raw into keys and uniques only", giving["twins"] / giving["ours"], 0.5)
    yield ratio("giving, over bulk_create", giving["bulk_create"] / giving["ours"], 3.0)
    yield ratio("giving and planning mails, of raw", both["raw"] / both["ours"])
    yield ratio(
        "giving and planning mails, of raw into keys and uniques only", both["twins"] / both["ours"], 0.5
    )
    yield ratio("giving and planning mails, over bulk_create", both["bulk_create"] / both["ours"], 3.0)
    rate = round(MEMBERS / both["ours"])
    yield {
        "name": "giving and planning mails",
        "value": rate,
        "unit": "members/s",
        "goal": None,
        "holds": True,
    }


def ratio(name: str, value: float, goal: float | None = None) -> dict[str, Any]:
    holds = goal is None or value >= goal
    return {"name": name, "value": round(value, 3), "unit": "ratio", "goal": goal, "holds": holds}


def timed(side: Side, release: Release) -> tuple[float, float]:
    """Seconds for both steps, from empty tables and a settled disk. Every row must be there afterwards."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(map(table, HOT))}, {table(Chunk)}")
        cursor.execute(f"TRUNCATE {', '.join(f'twin_{table(model)}' for model in HOT)}")
        Release.objects.update(state="confirmed", cursor=0, granted=0, held=0, as_of=None, lease_until=None)
        Message.objects.update(state="confirmed", cursor=0, planned=0, planned_at=None, lease_until=None)
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
    if counts != [MEMBERS, MEMBERS // 2, MEMBERS // 2, MEMBERS]:
        raise AssertionError(f"{side} wrote {counts}")
    return between - began, ended - between


def give(release: Release, _prefix: str) -> None:
    if not services.fan_out_grants(release.pk, now=NOW):
        raise AssertionError("not published")


def plan(release: Release, _prefix: str) -> None:
    if not plan_deliveries(release.message.pk, now=NOW):
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
            [release.message.pk, release.pk],
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
    with transaction.atomic():
        Delivery.objects.bulk_create(
            [
                Delivery(
                    message=release.message,
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


def populate() -> Release:
    """A creator with a main group, three sub groups and MEMBERS members in them, and a release for all."""
    user = User.objects.create(email="owner@forge.example", password="!")
    creator = Creator.objects.create(
        name="Forge",
        slug="forge",
        reply_to=user.email,
        postal_address="1 Mill Lane",
        created_at=NOW,
        approved_at=NOW,
    )
    patrons = Group.objects.create(creator=creator, name="Patrons", created_at=NOW)
    tiers = [
        Group.objects.create(creator=creator, parent=patrons, name=name, created_at=NOW)
        for name in ("Hobbyist", "Collector", "Merchant")
    ]
    bundle = Bundle.objects.create(creator=creator, title="Dragon", created_at=NOW)
    version = BundleVersion.objects.create(bundle=bundle, number=1, sealed_at=NOW)
    release = Release.objects.create(
        creator=creator, title="October", created_at=NOW, publish_at=NOW, state="confirmed"
    )
    ReleaseItem.objects.create(release=release, bundle=bundle, version=version)
    ReleaseAudience.objects.create(release=release, group=patrons)
    Message.objects.create(
        release=release, subject="October", body="Hello", state="confirmed", due_at=NOW, request_id=uuid4()
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_user (email, password, name, is_superuser, is_active, is_staff, date_joined)"
            " SELECT 'member' || n || '@example.org', '!', '', false, true, false, %s FROM generate_series(1, %s) n",
            [NOW, MEMBERS // 2],
        )
        cursor.execute(
            'INSERT INTO account_emailaddress (email, verified, "primary", user_id)'
            " SELECT email, true, true, id FROM accounts_user WHERE email LIKE 'member%%'"
        )
        cursor.execute(
            "INSERT INTO groups_contact (creator_id, address_key, name, account_id, created_at)"
            " SELECT %s, 'member' || n || '@example.org', 'Member ' || n, u.id, %s FROM generate_series(1, %s) n"
            " LEFT JOIN accounts_user u ON u.email = 'member' || n || '@example.org' ORDER BY md5(n::text)",
            [creator.pk, NOW, MEMBERS],
        )
        cursor.execute(
            "INSERT INTO groups_membership (group_id, contact_id, started_at, recorded_at)"
            " SELECT %s + id %% 3, id, %s, %s FROM groups_contact",
            [tiers[0].pk, NOW, NOW],
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return release


def table(model: type[Any]) -> str:
    return str(model._meta.db_table)

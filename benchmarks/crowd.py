"""A creator with as many members as a benchmark wants, and a message to all of them."""

from datetime import datetime
from typing import Any

from django.db import connection

from accounts.models import User
from distribution.services import choose_audience, choose_bundles, start_release
from groups.models import Creator, Group, Staff
from library.models import Blob, Bundle, BundleVersion, File
from messaging.models import Message
from messaging.services import start_message

TIERS = ("Hobbyist", "Collector", "Merchant")


def make_group(slug: str, *, members: int, now: datetime) -> Group:
    """A main group of its own creator with `members` people in its three sub groups, every second with an account."""
    owner = User.objects.create(email=f"owner@{slug}.example", password="!")
    creator = Creator.objects.create(
        name=slug.title(),
        slug=slug,
        reply_to=owner.email,
        postal_address="1 Mill Lane",
        created_at=now,
        approved_at=now,
    )
    Staff.objects.create(creator=creator, user=owner)
    patrons = Group.objects.create(creator=creator, name="Patrons", created_at=now)
    for name in TIERS:
        Group.objects.create(creator=creator, parent=patrons, name=name, created_at=now)
    add_members(patrons, first=1, last=members, now=now)
    return patrons


def add_members(group: Group, *, first: int, last: int, now: datetime) -> None:
    """The people with these numbers. They lie in no order of their addresses, as in life."""
    creator = group.creator
    values = {
        "slug": creator.slug,
        "creator": creator.pk,
        "tier": min(tier.pk for tier in group.sub_groups.all()),
        "first": first,
        "last": last,
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_user (email, password, name, is_superuser, is_active, is_staff, session_epoch, date_joined)"
            " SELECT 'member' || n || '@' || %(slug)s || '.example', '!', '', false, true, false, 0, %(now)s"
            " FROM generate_series(%(first)s, %(last)s) n WHERE n %% 2 = 0",
            values,
        )
        cursor.execute(
            'INSERT INTO account_emailaddress (email, verified, "primary", user_id)'
            " SELECT email, true, true, id FROM accounts_user WHERE email LIKE 'member%%@' || %(slug)s || '.example'"
            " ON CONFLICT DO NOTHING",
            values,
        )
        cursor.execute(
            "INSERT INTO groups_contact (creator_id, address_key, name, account_id, created_at)"
            " SELECT %(creator)s, 'member' || n || '@' || %(slug)s || '.example', 'Member ' || n, u.id, %(now)s"
            " FROM generate_series(%(first)s, %(last)s) n LEFT JOIN accounts_user u"
            " ON u.email = 'member' || n || '@' || %(slug)s || '.example' ORDER BY md5(n::text)",
            values,
        )
        cursor.execute(
            "INSERT INTO groups_membership (group_id, contact_id, started_at, recorded_at)"
            " SELECT %(tier)s + id %% 3, id, %(now)s, %(now)s FROM groups_contact c WHERE creator_id = %(creator)s"
            " AND NOT EXISTS (SELECT 1 FROM groups_membership m WHERE m.contact_id = c.id)",
            values,
        )


def make_bundle(creator: Creator, *, now: datetime) -> Bundle:
    """A bundle with a file in its sealed version."""
    bundle = Bundle.objects.create(creator=creator, title="Dragon bust", created_at=now)
    version = BundleVersion.objects.create(bundle=bundle, number=1, sealed_at=now)
    blob = Blob.objects.create(
        creator=creator, sha256="0" * 64, crc32=0, size=9, storage_key=creator.slug, created_at=now
    )
    File.objects.create(version=version, blob=blob, path="a.stl", path_key="a.stl", kind="stl", added_at=now)
    return bundle


def make_message(group: Group, bundle: Bundle, *, body: str, now: datetime) -> Message:
    """The draft of a message to everybody in `group`."""
    release = start_release(group.creator, now=now)
    choose_bundles(release, [bundle])
    choose_audience(release, [group], release.rule)
    message = start_message(release)
    message.subject, message.body = "The dragon is here", body
    message.save(update_fields=["subject", "body"])
    return message


def settle() -> None:
    """What has grown is known to the planner and on the disk."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")


def ratio(name: str, value: float, goal: float | None = None, *, most: bool = False) -> dict[str, Any]:
    """A line for the report: at least `goal`, or with `most` at most."""
    holds = goal is None or (value <= goal if most else value >= goal)
    return {"name": name, "value": round(value, 3), "unit": "ratio", "goal": goal, "holds": holds}


def told(name: str, value: float | None, unit: str) -> dict[str, Any]:
    """A line that reports and has no goal."""
    return {"name": name, "value": value, "unit": unit, "goal": None, "holds": True}

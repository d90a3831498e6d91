"""Every page of the studio, the library and the redeem link, through the views, on PostgreSQL: for a creator with a
million members, for one with a thousand in the same database, and for one with a thousand alone.

Server time, median of five, the three in turn, first as PostgreSQL plans without statistics and then with them. What
must hold: a page with a million behind it takes at most 1.5 × the same page with a thousand; a small creator beside it
at most 1.3 × what it takes alone. `PAGES_MEMBERS` takes another million, `PAGES_SLOWEST=1` names each page's slowest
query, and `PAGES_KEEP=1` keeps both databases for the next run, or uses those that are kept (they are migrated).
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from time import perf_counter
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import override_settings
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from benchmarks import crowd, lives
from distribution import tasks as distribution_tasks
from distribution.models import Grant
from distribution.tickets import issue_ticket
from groups import tasks as group_tasks
from groups.models import Contact, Membership
from messaging.models import Delivery

MEMBERS = int(os.environ.get("PAGES_MEMBERS", "1000000"))
FEW = 1_000
ROUNDS = max(1, int(os.environ.get("PAGES_ROUNDS", "5")))
KEEP = bool(os.environ.get("PAGES_KEEP"))
LARGE, SMALL = "citadel", "hamlet"
MOST_OF_FEW, MOST_OF_ALONE, MOST_MS = 1.5, 1.3, 100
# Below this a page's time is the clock's and the machine's.
NOISE_MS = 10
# Nobody has to collect the static files first.
WITHOUT_MANIFEST = {
    **settings.STORAGES,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}


@dataclass(frozen=True)
class Side:
    """One creator's pages in one database, as they are asked for by its owner and by one of its members."""

    name: str
    database: str
    pages: dict[str, str]
    clients: dict[str, Client]


def run() -> Iterator[dict[str, Any]]:
    if connection.vendor != "postgresql":
        yield crowd.told("pages", None, "skipped: needs PostgreSQL")
        return
    with override_settings(STORAGES=WITHOUT_MANIFEST), _databases() as names:
        sides = []
        for name, slug, database in (
            ("alone", SMALL, "alone"),
            ("small", SMALL, "both"),
            ("large", LARGE, "both"),
        ):
            _use(names[database])
            sides.append(_side(name, slug, names[database]))
        yield from _report("no statistics", _walk(sides))
        for database in names.values():
            _use(database)
            crowd.settle()
        yield from _report("statistics", _walk(sides))


def _report(planned: str, taken: dict[str, dict[str, float]]) -> Iterator[dict[str, Any]]:
    """The slowest page first."""
    for page, by_side in sorted(taken.items(), key=lambda one: -one[1]["large"]):
        alone, small, large = by_side["alone"], by_side["small"], by_side["large"]
        of_few, of_alone = large / max(small, alone, NOISE_MS), small / max(alone, NOISE_MS)
        yield {
            "name": f"{page}, {planned}, at {MEMBERS:,} members of {FEW:,}; {FEW:,} beside them of {FEW:,} alone",
            "value": [round(of_few, 2), round(of_alone, 2)],
            "unit": "ratios",
            "ms": {side: round(took, 1) for side, took in by_side.items()},
            "goal": [MOST_OF_FEW, MOST_OF_ALONE],
            "holds": of_few <= MOST_OF_FEW and of_alone <= MOST_OF_ALONE and large <= MOST_MS,
        }


def _walk(sides: list[Side]) -> dict[str, dict[str, float]]:
    """Milliseconds for each page on each side: the median of some rounds after one that warms up."""
    taken: dict[str, dict[str, list[float]]] = {}
    for at in range(ROUNDS + 1):
        for side in sides:
            _use(side.database)
            for page, path in side.pages.items():
                client = side.clients["member" if page.startswith("member") else "owner"]
                took = _ask(client, path)
                if at:
                    taken.setdefault(page, {}).setdefault(side.name, []).append(took)
    if os.environ.get("PAGES_SLOWEST"):
        _name_slowest(sides[-1])
        _name_slowest(sides[-2])
    return {page: {side: median(times) for side, times in by.items()} for page, by in taken.items()}


def _ask(client: Client, path: str) -> float:
    began = perf_counter()
    response = client.get(path, HTTP_HOST=settings.ALLOWED_HOSTS[0], secure=True)
    took = (perf_counter() - began) * 1000
    if response.status_code != 200:
        raise AssertionError(f"{path}: {response.status_code}")
    return took


def _name_slowest(side: Side) -> None:
    connection.force_debug_cursor = True
    _use(side.database)
    for page, path in side.pages.items():
        connection.queries_log.clear()
        _ask(side.clients["member" if page.startswith("member") else "owner"], path)
        slowest = max(connection.queries, key=lambda query: float(query["time"]))
        print(f"{side.name} · {page} · {len(connection.queries)} queries · {slowest}", file=sys.stderr)
    connection.force_debug_cursor = False


# --- what is asked for ---------------------------------------------------------------------------------


def _side(name: str, slug: str, database: str) -> Side:
    life = lives.find(slug)
    owner, member = Client(), Client()
    owner.force_login(User.objects.get(email=f"owner@{slug}.example"))
    with_account = Contact.objects.filter(creator=life.creator, account__isnull=False).order_by("-pk")
    holder = with_account.select_related("account").first()
    if holder is None or holder.account is None:
        raise AssertionError("nobody holds anything")
    member.force_login(holder.account)
    pages = {
        **_studio_pages(life),
        **_release_pages(life),
        **_draft_pages(life),
        **_member_pages(life, holder),
    }
    return Side(name, database, pages, {"owner": owner, "member": member})


def _of(life: lives.Life) -> Callable[..., str]:
    """Addresses in the studio of `life`."""

    def address(page: str, *args: int | str, query: str = "") -> str:
        return reverse(f"studio:{page}", args=[life.creator.slug, *args]) + query

    return address


def _studio_pages(life: lives.Life) -> dict[str, str]:
    to, group = _of(life), life.group.pk
    rows = Membership.objects.filter(group__parent=life.group, ended_at=None).order_by("pk")
    membership = rows[rows.count() // 2]
    person = rows[rows.count() // 3].contact
    return {
        "home": to("home"),
        "groups": to("groups"),
        "group": to("group", group),
        "group, sub group": to("group", life.tier.pk),
        "group, deep": to("group", group, query=f"?after={membership.pk}"),
        "group, one person searched": to("group", group, query=f"?q={person.address_key.split('@')[0]}"),
        "group, many searched": to("group", group, query="?q=moreau"),
        "group, nobody searched": to("group", group, query="?q=zzyzx"),
        "group, two letters searched": to("group", group, query="?q=qx"),
        "group, one tier": to("group", group, query=f"?group={life.tier.pk}"),
        "group, ended": to("group", group, query="?ended=yes"),
        "add a person": to("add_member", group),
        "rename a group": to("rename_group", group),
        "archive a group": to("archive_group", group),
        "end a membership": to("end_membership", membership.pk),
        "import": to("import", life.import_run.pk),
        "import, deep": to("import", life.import_run.pk, query=f"?part=unchanged&after={life.members // 2}"),
        "open an import": to("open_import", group),
        "bundles": to("bundles"),
        "bundle": to("bundle", life.bundle.pk),
        "archive a bundle": to("archive_bundle", life.bundle.pk),
        "settings": to("settings"),
    }


def _release_pages(life: lives.Life) -> dict[str, str]:
    to, release = _of(life), life.full.pk
    grants = Grant.objects.filter(release=release).order_by("contact")
    grant = grants[grants.count() // 2]
    bounced = (
        Delivery.objects.filter(message__release=release, state="bounced").order_by("-contact")[:1].get()
    )
    states = {
        state: to("recipients", release, query=f"?state={state}")
        for state in ("waiting", "library", "redeemed", "downloaded", "revoked", "accepted", "bounced")
    }
    name = grant.contact.address_key.split("@")[0]
    return {
        "releases": to("releases"),
        "release": to("release", release),
        "release, scheduled": to("release", life.scheduled.pk),
        "people": to("recipients", release),
        "people, deep": to("recipients", release, query=f"?after={grant.contact_id}"),
        "people, one searched": to("recipients", release, query=f"?q={name}"),
        "people, many searched": to("recipients", release, query="?q=moreau"),
        "people, nobody searched": to("recipients", release, query="?q=zzyzx"),
        **{f"people, {state}": path for state, path in states.items()},
        "not reached": to("undelivered", release),
        "not reached, came back": to("undelivered", release, query="?state=bounced"),
        "not reached, searched": to(
            "undelivered", release, query=f"?state=bounced&q={bounced.address_key.split('@')[0]}"
        ),
        "take it back from one": to("revoke_grant", grant.pk),
        "recall": to("recall_release", release),
    }


def _draft_pages(life: lives.Life) -> dict[str, str]:
    to, draft = _of(life), life.draft.pk
    return {
        "compose": to("compose", draft),
        "compose, its mail": to("preview_mail", draft),
        "compose, who is mailed": to("check_part", draft, "mailed"),
        "compose, who wants none": to("check_part", draft, "no_mail"),
        "reminder": to("reminder", life.full.pk),
    }


def _member_pages(life: lives.Life, holder: Contact) -> dict[str, str]:
    entry = holder.account.library.order_by("-pk").first() if holder.account else None
    grant = Grant.objects.get(release=life.full, contact=holder)
    if entry is None:
        raise AssertionError("nobody holds anything")
    return {
        "member: library": reverse("library:home"),
        "member: bundle": reverse("library:entry", args=[entry.pk]),
        "member: redeem link": reverse("redeem", args=[issue_ticket(grant.pk, grant.generation)]),
    }


# --- the databases ---------------------------------------------------------------------------------------


@contextmanager
def _databases() -> Iterator[dict[str, str]]:
    """One with both creators, one with the small one alone. What DATABASE_URL names is not touched."""
    ending = "kept" if KEEP else str(os.getpid())
    names = {which: f"largesse_bench_pages_{which}_{ending}" for which in ("alone", "both")}
    try:
        for which, name in names.items():
            if _create(name):
                _fill([SMALL] if which == "alone" else [SMALL, LARGE])
            _count(name)
        yield names
    finally:
        connection.close()
        if not KEEP:
            for name in names.values():
                with connection._nodb_cursor() as cursor:
                    cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')


def _create(name: str) -> bool:
    """Whether it is new. Either way it is migrated."""
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        new = cursor.fetchone() is None
        if new:
            cursor.execute(f'CREATE DATABASE "{name}"')
    _use(name)
    call_command("migrate", verbosity=0)
    return new


def _fill(slugs: list[str]) -> None:
    now = timezone.now() - timedelta(minutes=1)
    for slug in slugs:
        lives.live(slug, members=MEMBERS if slug == LARGE else FEW, now=now)


def _count(database: str) -> None:
    """What the workers count, they have counted."""
    _use(database)
    distribution_tasks.sweep()
    group_tasks.sweep()


def _use(database: str) -> None:
    if connection.settings_dict["NAME"] != database:
        connection.close()
        connection.settings_dict["NAME"] = database

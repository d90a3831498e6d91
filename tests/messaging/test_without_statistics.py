"""Sending and redeeming cost what they are about, whatever the database knows of its tables: here it knows nothing.

With autovacuum off, or before it came round after a first large send, the planner guesses. Each statement is explained
with its true numbers first, and no step of it may look at more rows than a few for each that the work is about.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.urls import reverse
from psycopg import errors

from accounts.models import User
from distribution.models import Grant
from distribution.services import redeem_grant, revoke_grant, settle_waiting
from distribution.tickets import issue_ticket
from groups.models import Creator, Group
from messaging import services
from messaging.mail import Mailing, message_id_of
from messaging.models import Chunk, Delivery, DryRun, Message, Preference
from messaging.providers import Answer, Kind
from messaging.services import counting
from tests.factories import BundleFactory, ReleaseFactory, UserFactory
from tests.messaging.test_chunks import Script
from tests.messaging.test_settle import sender

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]

# Under two releases: forty thousand grants and as many deliveries.
PEOPLE = 20_000
# What a step of a statement may look at: a few rows for each of a chunk's thousand, and what was there before each change.
FEW = 15_000
# What goes through everybody looks at each of them a few times.
EVERYBODY = 4 * PEOPLE
# So long a bad plan is watched.
PATIENCE_MS = 4_000

TABLES = (
    "account_emailaddress",
    "accounts_suppression",
    "accounts_user",
    "distribution_grant",
    "distribution_release",
    "groups_contact",
    "groups_membership",
    "library_holding",
    "library_libraryentry",
    "messaging_chunk",
    "messaging_delivery",
    "messaging_message",
    "messaging_preference",
    "messaging_recentmail",
)


def looked_at(node: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """How many rows each step of a plan touched, with its name.

    One that walks through a table has touched all of it: if it stopped early, the next walk may begin elsewhere.
    """
    rows = node["Actual Rows"] + sum(
        node.get(name, 0) for name in ("Rows Removed by Filter", "Rows Removed by Join Filter")
    )
    if node["Node Type"] == "Seq Scan":
        with connection.cursor() as cursor:
            cursor.cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(node['Relation Name'])}")
            rows = max(rows, cursor.cursor.fetchone()[0])
    yield int(rows * node["Actual Loops"]), f"{node['Node Type']} {node.get('Relation Name', '')}"
    for child in node.get("Plans", ()):
        yield from looked_at(child)


class Costly(AssertionError):
    pass


def _explained(sql: str, params: Any) -> Any:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE_MS}")
        try:
            cursor.cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", params)
        except errors.QueryCanceled as error:
            raise OperationalError from error
        [[plan]] = cursor.cursor.fetchall()
        transaction.set_rollback(True)
    return plan


@contextmanager
def watched(limit: int = FEW) -> Iterator[list[str]]:
    """Every statement is carried out twice: explained and undone, then for good. `Costly` if a step is over `limit`."""
    seen: list[str] = []
    costly: list[str] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if (
            sql.startswith(("SELECT", "UPDATE", "INSERT", "DELETE", "WITH"))
            and "_setting(" not in sql
            and "set_config" not in sql
            and not many
        ):
            try:
                plan = _explained(sql, params)
            except OperationalError:
                costly.append(f"longer than {PATIENCE_MS} ms: {sql.replace('%s, ', '')}")
                return execute(sql, params, many, context)
            plan = json.loads(plan) if isinstance(plan, str) else plan
            rows, step = max(looked_at(plan[0]["Plan"]))
            seen.append(f"{rows} {step}: {sql[:200]}")
            if rows > limit:
                costly.append(f"{rows} rows at {step}: {sql.replace('%s, ', '')}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield seen
    if costly:
        raise Costly("\n\n".join(costly))


@pytest.fixture
def forget() -> Callable[[], None]:
    def forgotten() -> None:
        """The database has never looked at any table."""
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class WHERE relname = ANY(%s))",
                [list(TABLES)],
            )
            cursor.execute(
                "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname = ANY(%s)", [list(TABLES)]
            )

    return forgotten


@pytest.fixture
def crowd(creator: Creator, hobbyist: Group, now: datetime) -> Group:
    """A large group."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO groups_contact (creator_id, address_key, name, created_at)"
            " SELECT %s, 'c' || n || '@example.net', 'Person ' || n, %s FROM generate_series(1, %s) n",
            [creator.pk, now - timedelta(days=9), PEOPLE],
        )
        cursor.execute(
            "INSERT INTO groups_membership (group_id, contact_id, started_at, recorded_at)"
            " SELECT %s, id, %s, %s FROM groups_contact WHERE creator_id = %s",
            [hobbyist.pk, now - timedelta(days=9), now - timedelta(days=9), creator.pk],
        )
    return hobbyist


@pytest.fixture
def write(crowd: Group) -> Callable[[str], Message]:
    def written(title: str) -> Message:
        bundle = BundleFactory.create(creator=crowd.creator)
        release = ReleaseFactory.create(creator=crowd.creator, title=title, bundles=[bundle], groups=[crowd])
        message = services.start_message(release)
        message.subject, message.body = title, "Hi {first_name}, here it is."
        message.save()
        return message

    return written


def test_sending_looks_at_a_chunk_and_not_at_everybody(
    write: Callable[[str], Message],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    forget: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    creator: Creator,
    owner: User,
    now: datetime,
) -> None:
    older, message = write("Older"), write("Newer")
    start(confirm(older))
    forget()
    # A worker counts who would get it; then it is confirmed, given to everybody, planned and begun.
    monkeypatch.setattr(counting, "AT_ONCE", 0)
    with watched(limit=EVERYBODY):
        services.ask_dry_run(message, now=now)
        services.count_dry_run(message.pk, now=now)
    assert services.outlook(message, now=now, run=DryRun.objects.get()).mailed == PEOPLE
    forget()
    with watched(limit=EVERYBODY):
        start(confirm(message))
    # Some of the older one were told in the newer one's mails, and some wait for the digest.
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE messaging_delivery told SET state = 'skipped', reason = 'merged', told_in = mail.id"
            " FROM messaging_delivery mail WHERE mail.message_id = %s AND mail.contact_id = told.contact_id"
            " AND told.message_id = %s AND told.contact_id %% 2 = 0",
            [message.pk, older.pk],
        )
        cursor.execute(
            "UPDATE messaging_delivery SET state = 'held', reason = 'weekly' WHERE message_id = %s AND contact_id %% 2 = 1",
            [older.pk],
        )
    Chunk.objects.filter(message=older).update(tally={"held": 500, "skipped": 500}, state="done")
    Message.objects.filter(pk=older.pk).update(held=PEOPLE // 2)
    forget()
    with watched() as seen:
        chunk = services.open_chunk(owner="x", now=now)
        assert chunk is not None
        assert chunk.message_id in (older.pk, message.pk)
        way = Script([Answer(Kind.LATER, code=451)], wave=500)
        services.send_chunk(chunk, Mailing(chunk.message), way, clock=lambda: now, stop=lambda: False)
        contact = Delivery.objects.of(chunk)[3].contact
        services.set_preference(contact, Preference.Choice.NOTHING, now=now)
        services.progress(chunk.message, now=now)
    assert len(way.offered) > 900
    assert seen
    _settle(chunk, forget, now)
    _plan_the_digest(older, forget, now)
    _redeem(message, forget, owner, now)


def _settle(chunk: Chunk, forget: Callable[[], None], now: datetime) -> None:
    """A thousand doubts are settled by what the relay's log says, of each address that it names."""
    Delivery.objects.of(chunk).filter(attempts=1).update(state="unknown", offered_by="smtp")
    Chunk.objects.filter(pk=chunk.pk).update(tally={"unknown": 1000}, state="done")
    doubts = list(Delivery.objects.of(chunk).filter(state="unknown")[:900])
    lines = []
    for number, one in enumerate(doubts):
        name = f"{number:04X}CDE12345"
        fate = "dsn=5.1.1, status=bounced (no)" if number == 7 else "dsn=2.0.0, status=sent (250 ok)"
        lines += [
            f"Nov 21 relay postfix/cleanup[1]: {name}: message-id={message_id_of(one.message, one.pk)}",
            f"Nov 21 relay postfix/qmgr[1]: {name}: from=<{sender()}>, size=9, nrcpt=1 (queue active)",
            f"Nov 21 relay postfix/smtp[1]: {name}: to=<{one.written_to}>, {fate}",
        ]
    forget()
    with watched():
        found = services.settle_by_log(lines, now=now)
    assert (found.accepted, found.bounced) == (899, 1)


def _plan_the_digest(older: Message, forget: Callable[[], None], now: datetime) -> None:
    """A digest for tens of thousands is planned, and a chunk of it opened: it asks what each of its mails tells of."""
    sunday = now + timedelta(days=2)
    with watched(limit=EVERYBODY):
        [digest] = services.plan_digests(sunday)
        services.plan_deliveries(digest, now=sunday)
        services.begin_sending(digest, now=sunday)
    Chunk.objects.exclude(message=digest).update(state="done")
    forget()
    with watched():
        chunk = services.open_chunk(owner="x", now=sunday)
        assert chunk is not None
        assert chunk.message_id == digest
        way = Script(wave=500)
        services.send_chunk(chunk, Mailing(chunk.message), way, clock=lambda: sunday, stop=lambda: False)
    assert len(way.offered) > 900


def _redeem(message: Message, forget: Callable[[], None], owner: User, now: datetime) -> None:
    grant, other, known = Grant.objects.select_related("contact").filter(release=message.release)[:3]
    member = UserFactory.create(email=grant.contact.address_key)
    somebody = UserFactory.create(email=other.contact.address_key)
    with connection.cursor() as cursor:
        # Others have accounts, and the library holds what they were given.
        cursor.execute(
            "INSERT INTO accounts_user (email, password, name, is_superuser, is_active, is_staff, session_epoch, date_joined)"
            " SELECT 'u' || n || '@example.net', '!', '', false, true, false, 0, %s FROM generate_series(1, %s) n",
            [now, PEOPLE],
        )
        cursor.execute(
            'INSERT INTO account_emailaddress (email, verified, "primary", user_id)'
            " SELECT email, true, true, id FROM accounts_user WHERE email ~ '^u[0-9]+@'"
        )
        cursor.execute(
            "INSERT INTO library_libraryentry (user_id, bundle_id, added_at) SELECT id, %s, %s"
            " FROM accounts_user WHERE email ~ '^u[0-9]+@'",
            [message.release.items.get().bundle_id, now],
        )
        cursor.execute(
            "INSERT INTO library_holding (entry_id, version_id, origin_key, title, group_name, given_at)"
            " SELECT id, %s, %s, 'Newer', 'Hobbyist', %s FROM library_libraryentry",
            [message.release.items.get().version_id, message.release.origin_key, now],
        )
        cursor.execute(
            "UPDATE groups_contact SET account_id = (SELECT min(user_id) FROM library_libraryentry) WHERE id = %s",
            [known.contact_id],
        )
    link = reverse("redeem", args=[issue_ticket(grant.pk, 1)])
    forget()
    with watched(limit=100):
        assert Client().get(link).status_code == 200
        assert redeem_grant(grant, user=member, now=now)
        browser = Client()
        browser.force_login(member)
        assert "in your library" in browser.get(link).text.lower()
        # Whoever had an account when it was given holds it without a press.
        had_it = Client()
        known.contact.refresh_from_db()
        had_it.force_login(known.contact.account)
        assert (
            "in your library" in had_it.get(reverse("redeem", args=[issue_ticket(known.pk, 1)])).text.lower()
        )
        # A creator who takes it back from one looks at no other's.
        assert revoke_grant(known, by=owner, now=now)
        # Whoever signs in finds what waited for them, however many wait for others.
        assert settle_waiting(somebody, now=now) == 2

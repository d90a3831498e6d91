"""Accepting a message: from the press of the button until it is sure to go, for a thousand members and for a million.

And looking at its dry run before: what each save of the draft asks for, and what a worker counts once for the million.

Both audiences lie in the same tables; each message is confirmed and taken back, in turn. Once more with everybody
who has an account holding the files already, so that the first who is to be told is not the first who is looked at.
`ACCEPT_MEMBERS` takes another million.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import Any
from uuid import uuid4

from django.db import connection

from accounts.models import User
from benchmarks import crowd
from benchmarks.scratch import scratch_database
from library.services import add_holdings
from messaging.models import Message
from messaging.services import ask_dry_run, confirm_message, count_dry_run, outlook, unschedule_message

MEMBERS = int(os.environ.get("ACCEPT_MEMBERS", "1000000"))
FEW = 1_000
ROUNDS = max(5, int(os.environ.get("ACCEPT_ROUNDS", "15")))
MOST = 3.0
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def run() -> Iterator[dict[str, Any]]:
    if connection.vendor != "postgresql":
        yield crowd.told("accept", None, "skipped: needs PostgreSQL")
        return
    with scratch_database("accept"):
        messages = {"few": draft("few", FEW), "many": draft("many", MEMBERS)}
        crowd.settle()
        yield from looked_at(messages)
        yield from compared("", messages)
        for message in messages.values():
            held_by_accounts(message)
        crowd.settle()
        yield from compared(", those with accounts holding it already", messages)


def looked_at(messages: dict[str, Message]) -> Iterator[dict[str, Any]]:
    counting = {}
    for name, message in messages.items():
        ask_dry_run(message, now=NOW)
        began = perf_counter()
        count_dry_run(message.pk, now=NOW)
        counting[name] = perf_counter() - began
    taken: dict[str, list[float]] = {name: [] for name in messages}
    for _round in range(ROUNDS):
        for name, message in messages.items():
            began = perf_counter()
            found = outlook(message, now=NOW, run=ask_dry_run(message, now=NOW))
            taken[name].append(perf_counter() - began)
            assert found.people == (FEW if name == "few" else MEMBERS)
    few, many = (median(times) for times in taken.values())
    yield crowd.ratio(
        f"looking at a draft for {MEMBERS:,} members, of for {FEW:,}", many / few, MOST, most=True
    )
    yield crowd.told(f"looking at a draft for {MEMBERS:,} members", round(many * 1000, 1), "ms")
    yield crowd.told(f"its dry run, by a worker, {MEMBERS:,} members", round(counting["many"], 2), "s")


def compared(when: str, messages: dict[str, Message]) -> Iterator[dict[str, Any]]:
    taken: dict[str, list[float]] = {name: [] for name in messages}
    for _round in range(ROUNDS + 1):
        for name, message in messages.items():
            taken[name].append(confirmed(message))
    # The first of each reads what it needs from the disk.
    few, many = (median(times[1:]) for times in taken.values())
    yield crowd.ratio(f"accepting for {MEMBERS:,} members, of for {FEW:,}{when}", many / few, MOST, most=True)
    yield crowd.told(f"accepting for {MEMBERS:,} members{when}", round(many * 1000, 1), "ms")


def confirmed(message: Message) -> float:
    """Seconds until it is confirmed. It is a draft again afterwards."""
    by = User.objects.get(email=message.release.creator.reply_to)
    fresh = Message.objects.get(pk=message.pk)
    began = perf_counter()
    confirm_message(fresh, request_id=uuid4(), due_at=NOW, by=by, now=NOW)
    seconds = perf_counter() - began
    unschedule_message(fresh, now=NOW)
    return seconds


def draft(slug: str, members: int) -> Message:
    group = crowd.make_group(slug, members=members, now=NOW)
    return crowd.make_message(
        group, crowd.make_bundle(group.creator, now=NOW), body="Hi {first_name|friend}", now=NOW
    )


def held_by_accounts(message: Message) -> None:
    creator = message.release.creator
    add_holdings(
        User.objects.filter(email__endswith=f"@{creator.slug}.example").values_list("pk", flat=True),
        versions=[item.bundle.versions.get() for item in message.release.items.all()],
        origin_key="release:0",
        title="Before",
        group_name="Patrons",
        given_at=NOW,
    )

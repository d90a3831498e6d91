"""One order of locks: while a chunk is opened nobody waits in a circle, and nobody who only redeems waits at all."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, connections, transaction

from accounts.models import User
from distribution.models import Grant
from distribution.services import redeem_grant
from groups.models import Contact, Creator
from messaging import breakers, services
from messaging.models import Chunk, Delivery, Message, Preference
from tests.factories import UserFactory

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


class Doing:
    """One call in a thread of its own, and what it returned or raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: Any = None
        self.thread = threading.Thread(target=self._run, args=(call,))
        self.thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self.result = call()
        except Exception as error:
            self.result = error
        finally:
            connections.close_all()

    def ends(self, seconds: float = 30) -> bool:
        self.thread.join(seconds)
        return not self.thread.is_alive()


def until_so_many_wait(number: int) -> None:
    """That many sessions of this database wait for a lock."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        with connection.cursor() as cursor:
            # Or a transaction sees what it saw the first time.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0] == number:
                return
        time.sleep(0.01)
    raise AssertionError(f"never {number} waiting")


@contextmanager
def holding(rows: Any) -> Iterator[None]:
    with transaction.atomic():
        list(rows.select_for_update(no_key=True))
        yield


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


def trip(message: Message, owner: User, now: datetime) -> Any:
    Message.objects.filter(pk=message.pk).update(bounced=5)
    return lambda: breakers.check(message, now=now)


def reopen(message: Message, owner: User, now: datetime) -> Any:
    Delivery.objects.filter(address_key="p0@example.net").update(state="failed")
    rows = Delivery.objects.filter(address_key="p0@example.net")
    return lambda: services.resend(rows, message=message, by=owner, now=now)


def pause(message: Message, owner: User, now: datetime) -> Any:
    return lambda: services.pause_message(message, by=owner, now=now)


@pytest.mark.parametrize("act", [pause, reopen, trip])
def test_opening_a_chunk_waits_in_no_circle_with_who_changes_its_message(
    message: Message, owner: User, now: datetime, act: Callable[..., Callable[[], Any]]
) -> None:
    changing = act(message, owner, now)
    with holding(Creator.objects.all()):
        # It has its chunk and wants the creator; the other has the message and wants the chunk, or the creator too.
        opening = Doing(lambda: services.open_chunk(owner="x", now=now))
        until_so_many_wait(1)
        other = Doing(changing)
        until_so_many_wait(2)
    assert opening.ends()
    assert other.ends()
    assert isinstance(opening.result, Chunk)
    assert other.result in (None, 1, True)


def test_nobody_who_redeems_waits_for_a_chunk_to_be_opened(message: Message, now: datetime) -> None:
    one, other = Delivery.objects.order_by("contact")[:2]
    Preference.objects.create(
        creator=one.contact.creator, contact=one.contact, choice="nothing", changed_at=now
    )
    member = UserFactory.create(email=other.address_key)
    grant = Grant.objects.get(contact=other.contact)
    with holding(Delivery.objects.filter(pk=one.pk)):
        opening = Doing(lambda: services.open_chunk(owner="x", now=now))
        until_so_many_wait(1)
        redeeming = Doing(lambda: redeem_grant(grant, user=member, now=now))
        redeemed_meanwhile = redeeming.ends(5)
    assert opening.ends()
    assert redeeming.ends()
    assert redeemed_meanwhile
    assert redeeming.result is True

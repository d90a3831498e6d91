"""Real threads on a real database: the guards hold when everybody comes at once."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection, connections

from accounts.models import User
from distribution.models import Release
from distribution.services import fan_out_grants
from groups.models import Contact, Group
from messaging import services
from messaging.models import Chunk, Delivery, Message, Preference, SendSlot
from messaging.providers import Answer, Kind, Provider
from messaging.services import ConfirmRefused, TooSoon
from messaging.services.chain import Settled, link
from messaging.services.eligible import told_by
from rows.clock import db_now
from tests.factories import BundleFactory, ContactFactory, MembershipFactory, ReleaseFactory

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def all_at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call returned or raised, all of them let go at the same moment."""
    gate = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(at: int) -> None:
        try:
            connection.ensure_connection()
            gate.wait(30)
            results[at] = calls[at]()
        except Exception as error:
            results[at] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_fifty_different_messages_for_one_last_slot_and_one_is_accepted(
    owner: User, hobbyist: Group, people: list[Contact], now: datetime
) -> None:
    def draft(number: int) -> Message:
        bundle = BundleFactory.create(creator=hobbyist.creator)
        release = ReleaseFactory.create(creator=hobbyist.creator, bundles=[bundle], groups=[hobbyist])
        message = services.start_message(release)
        message.subject = f"No. {number}"
        message.save()
        return message

    def confirm(message: Message) -> Callable[[], Message]:
        return lambda: services.confirm_message(message, request_id=uuid4(), due_at=now, by=owner, now=now)

    confirm(draft(0))()
    drafts = [draft(number) for number in range(1, 51)]
    results = all_at_once([confirm(message) for message in drafts])
    assert sum(isinstance(result, Message) for result in results) == 1
    refused = [result for result in results if not isinstance(result, Message)]
    assert {type(result) for result in refused} == {TooSoon}
    assert {result.next_at for result in refused} == {now + timedelta(days=7)}
    assert SendSlot.objects.count() == 2
    assert Release.objects.filter(state="confirmed").count() == 2
    assert Release.objects.filter(state="draft").count() == 49


def test_fifty_posts_of_one_form_are_one_message(
    draft: Message, people: list[Contact], owner: User, now: datetime
) -> None:
    request_id = uuid4()
    results = all_at_once(
        [lambda: services.confirm_message(draft, request_id=request_id, due_at=now, by=owner, now=now)] * 50
    )
    assert {(result.pk, result.state, result.request_id) for result in results} == {
        (draft.pk, "confirmed", request_id)
    }
    assert SendSlot.objects.count() == 1


def test_confirming_and_taking_back_at_once_leave_a_slot_exactly_when_it_is_confirmed(
    draft: Message, people: list[Contact], owner: User, now: datetime
) -> None:
    def confirm() -> None:
        with contextlib.suppress(ConfirmRefused):
            services.confirm_message(draft, request_id=uuid4(), due_at=now, by=owner, now=now)

    results = all_at_once([confirm, lambda: services.unschedule_message(draft, now=now)] * 10)
    assert set(results) == {None}
    draft.refresh_from_db()
    held = SendSlot.objects.filter(released_at=None).count()
    assert held == (1 if draft.state == Message.State.CONFIRMED else 0)


def test_two_workers_never_hold_one_chunk(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    start(confirm(draft))
    results = all_at_once([lambda: services.open_chunk(owner="x", now=now)] * 10)
    assert sum(isinstance(result, Chunk) for result in results) == 1
    assert [result for result in results if result is None] == [None] * 9


def test_many_workers_send_each_mail_once(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("messaging.services.plan.CHUNK", 1)
    start(confirm(draft))
    offered: list[str] = []

    class Way:
        name = "way"
        shares_calls = False

        def open(self) -> int:
            return 2

        def close(self) -> None: ...

        def offer(self, mails: Any) -> list[Answer]:
            offered.extend(mail.address for mail in mails)
            return [Answer(Kind.ACCEPTED)] * len(mails)

    def work() -> None:
        services.send_waiting(owner="x", provider=Way(), clock=lambda: now, stop=lambda: False)

    assert set(all_at_once([work] * 8)) == {None}
    assert sorted(offered) == sorted(contact.address_key for contact in people)
    draft.refresh_from_db()
    services.finish_message(draft.pk, now=now)
    draft.refresh_from_db()
    assert draft.state == Message.State.DONE


def test_a_worker_that_wakes_while_it_is_being_overtaken_loses(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    start(confirm(draft))
    for _round in range(10):
        Delivery.objects.update(state="planned", attempts=0)
        Chunk.objects.update(state="open", lease_until=None)
        stalled = services.open_chunk(owner="stalled", now=now)
        assert stalled is not None
        first, second = Delivery.objects.order_by("contact")[:2]
        link(stalled, intend={first.pk: first.address_key}, told=told_by(first.message), seconds=60, now=now)
        Chunk.objects.update(lease_until=db_now() - timedelta(seconds=1))

        wake = partial(
            link,
            stalled,
            settled=[Settled(first.pk, 1, "accepted")],
            intend={second.pk: second.address_key},
            told=told_by(second.message),
            seconds=60,
            now=now,
        )
        late, other = all_at_once([wake, lambda: services.open_chunk(owner="other", now=now)])
        first.refresh_from_db()
        second.refresh_from_db()
        # Either it was in time, renewed its lease and nobody overtook it, or it was too late and offers nothing more.
        # What became of its mail is known in both.
        if late.ours:
            assert (other, first.state, second.state) == (None, "accepted", "sending")
        else:
            assert (other is not None, first.state, second.state) == (True, "accepted", "planned")


def test_planning_at_once_plans_everybody_once(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)
    results = all_at_once([lambda: services.plan_deliveries(message.pk, now=now, page=2)] * 6)
    assert sorted(results) == [False] * 5 + [True]
    assert Delivery.objects.count() == 5
    started = all_at_once([lambda: services.begin_sending(message.pk, now=now)] * 6)
    assert sorted(started) == [False] * 5 + [True]
    assert SendSlot.objects.count() == 1


class SlowWay:
    """Takes its time for a wave; what it was offered, in order."""

    name = "slow"
    shares_calls = False
    wave = 2

    def __init__(self) -> None:
        self.offered: list[str] = []

    def open(self) -> int:
        return self.wave

    def close(self) -> None: ...

    def offer(self, mails: Any) -> list[Answer]:
        time.sleep(0.03)
        self.offered.extend(mail.address for mail in mails)
        return [Answer(Kind.ACCEPTED)] * len(mails)


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.001)


def send_with(way: SlowWay, now: datetime) -> None:
    services.send_waiting(owner="x", provider=cast("Provider", way), clock=lambda: now, stop=lambda: False)


@pytest.fixture
def crowd(hobbyist: Group, people: list[Contact]) -> list[Contact]:
    """Forty members more."""
    for number in range(40):
        contact = ContactFactory.create(creator=hobbyist.creator, address_key=f"c{number}@example.net")
        MembershipFactory.create(group=hobbyist, contact=contact)
    return people


@pytest.mark.parametrize("end", ["pause", "cancel"])
def test_after_a_pause_or_cancel_no_more_leave_than_were_in_flight(
    crowd: list[Contact],
    draft: Message,
    owner: User,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.setattr("messaging.services.plan.CHUNK", 10)
    start(confirm(draft))
    ways = [SlowWay(), SlowWay()]
    at_the_stop = 0

    def stop() -> None:
        nonlocal at_the_stop
        until(lambda: sum(len(way.offered) for way in ways) >= 10)
        act = services.pause_message if end == "pause" else services.cancel_message
        act(draft, by=owner, now=now)
        at_the_stop = sum(len(way.offered) for way in ways)

    assert all_at_once([partial(send_with, way, now) for way in ways] + [stop]) == [None] * 3
    offered = [address for way in ways for address in way.offered]
    assert len(offered) - at_the_stop <= len(ways) * SlowWay.wave
    assert len(offered) < 45
    assert Delivery.objects.filter(state="accepted").count() == len(offered) == len(set(offered))
    assert not Delivery.objects.filter(state__in=["sending", "unknown"]).exists()
    if end == "pause":
        services.resume_message(draft, by=owner, now=now)
        assert all_at_once([partial(send_with, way, now) for way in ways]) == [None] * 2
        everybody = [address for way in ways for address in way.offered]
        assert len(everybody) == len(set(everybody)) == 45
        return
    assert services.clear_cancelled(draft.pk, now=now) == 0
    assert Delivery.objects.filter(state="cancelled").count() == 45 - len(offered)
    assert SendSlot.objects.filter(message=draft, released_at=None).count() == 1


def test_who_unsubscribes_during_the_send_is_written_to_or_not_and_the_row_says_which(
    crowd: list[Contact],
    draft: Message,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    start(confirm(draft))
    way = SlowWay()
    leaving = list(Contact.objects.order_by("pk")[15:30])
    after: dict[str, int] = {}

    def unsubscribe() -> None:
        until(lambda: len(way.offered) >= 6)
        for contact in leaving:
            services.set_preference(contact, Preference.Choice.NOTHING, now=now)
            after[contact.address_key] = len(way.offered)

    assert all_at_once([partial(send_with, way, now), unsubscribe]) == [None] * 2
    states = dict(Delivery.objects.values_list("address_key", "state"))
    assert {states[address] for address in way.offered} == {"accepted"}
    for contact in leaving:
        address = contact.address_key
        assert (states[address] == "skipped") == (address not in way.offered)
        if address in way.offered:
            # It was in flight already when the press was answered.
            assert way.offered.index(address) < after[address] + SlowWay.wave
    assert "skipped" in {states[contact.address_key] for contact in leaving}


def test_many_beats_at_once_are_one(
    crowd: list[Contact],
    draft: Message,
    confirm: Callable[..., Message],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("messaging.services.plan.CHUNK", 3)
    confirm(draft, due_at=now)
    ways = [SlowWay() for _beat in range(4)]

    def beat(way: SlowWay) -> bool:
        fan_out_grants(draft.release_id, now=now)
        services.plan_deliveries(draft.pk, now=now, page=7)
        services.begin_sending(draft.pk, now=now)
        send_with(way, now)
        services.finish_message(draft.pk, now=now)
        return Message.objects.get(pk=draft.pk).state == Message.State.DONE

    assert all_at_once([partial(until, partial(beat, way)) for way in ways]) == [None] * 4
    assert sum(bool(way.offered) for way in ways) > 1
    offered = [address for way in ways for address in way.offered]
    assert len(offered) == len(set(offered)) == 45
    assert Delivery.objects.filter(state="accepted").count() == 45
    assert SendSlot.objects.filter(released_at=None).count() == 1
    draft.refresh_from_db()
    assert draft.state == Message.State.DONE


def test_a_worker_that_is_stopped_in_a_transaction_keeps_its_locks_no_longer_than_its_lease() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
        )
        assert cursor.fetchone() == (settings.SEND_LEASE_SECONDS * 1000,)

"""Real threads: from the moment on at which a change of a person was answered no mail begins its way against it."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

import pytest

from accounts.models import User
from groups.models import Contact, Group, Membership
from groups.services import change_address, end_membership
from messaging import services
from messaging.models import Delivery, Message
from tests.messaging.test_races import SlowWay, all_at_once, crowd, send_with, until

__all__ = ["crowd"]

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

WAYS = 2


@pytest.fixture
def message(
    crowd: list[Contact],
    draft: Message,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    monkeypatch: pytest.MonkeyPatch,
) -> Message:
    monkeypatch.setattr("messaging.services.plan.CHUNK", 10)
    return start(confirm(draft))


def send_all(ways: list[SlowWay], change: Callable[[], None], now: datetime) -> None:
    """Two workers send while somebody makes changes, until the message is done."""

    def work(way: SlowWay) -> None:
        def done() -> bool:
            send_with(way, now)
            return Message.objects.get().state == Message.State.DONE

        until(done)

    assert all_at_once([*(partial(work, way) for way in ways), change]) == [None] * (len(ways) + 1)


@pytest.mark.parametrize("begin", [0, 2, 8, 20])
def test_who_moves_during_the_send_is_written_to_once_and_at_the_old_address_only_if_it_was_under_way(
    message: Message, owner: User, now: datetime, begin: int
) -> None:
    ways = [SlowWay(), SlowWay()]
    moving = list(Contact.objects.order_by("pk")[8:38:2])
    answered: dict[str, list[int]] = {}

    def change() -> None:
        until(lambda: sum(len(way.offered) for way in ways) >= begin)
        for contact in moving:
            old = contact.address_key
            change_address(contact, f"new-{old}", by=owner, now=now)
            answered[old] = [len(way.offered) for way in ways]

    send_all(ways, change, now)
    offered = [address for way in ways for address in way.offered]
    assert len(offered) == len(set(offered)) == 45
    for contact in Contact.objects.all():
        delivery = Delivery.objects.select_related("contact").get(contact=contact)
        assert delivery.state == "accepted"
        assert delivery.written_to in offered
    for old, lengths in answered.items():
        assert (old in offered) != (f"new-{old}" in offered)
        for way, length in zip(ways, lengths, strict=True):
            # Its intent stood already when the change was answered.
            assert old not in way.offered[length + SlowWay.wave :]
    if begin < 8:
        assert any(f"new-{old}" in offered for old in answered)


@pytest.mark.parametrize("begin", [0, 2, 8, 20])
def test_who_is_removed_during_the_send_is_not_written_to_afterwards(
    message: Message, hobbyist: Group, now: datetime, begin: int
) -> None:
    ways = [SlowWay(), SlowWay()]
    leaving = list(Membership.objects.select_related("contact", "group").order_by("contact")[8:38:2])
    answered: dict[str, list[int]] = {}

    def change() -> None:
        until(lambda: sum(len(way.offered) for way in ways) >= begin)
        for membership in leaving:
            end_membership(membership, now=now)
            answered[membership.contact.address_key] = [len(way.offered) for way in ways]

    send_all(ways, change, now)
    offered = [address for way in ways for address in way.offered]
    states = dict(Delivery.objects.values_list("address_key", "state"))
    for address, lengths in answered.items():
        assert states[address] == ("accepted" if address in offered else "cancelled")
        for way, length in zip(ways, lengths, strict=True):
            assert address not in way.offered[length + SlowWay.wave :]
    assert "cancelled" in {states[address] for address in answered}
    assert len(offered) == len(set(offered)) == list(states.values()).count("accepted")


def test_many_who_pass_their_addresses_on_while_chunks_are_opened_are_each_written_to_once(
    message: Message, owner: User, now: datetime
) -> None:
    ways = [SlowWay(), SlowWay()]
    people = list(Contact.objects.order_by("pk"))

    def change() -> None:
        # Everybody takes the address of the next one, from the last to the first.
        after = "last@example.net"
        for contact in reversed(people[10:]):
            before = contact.address_key
            change_address(contact, after, by=owner, now=now)
            after = before

    send_all(ways, change, now)
    offered = [address for way in ways for address in way.offered]
    assert len(offered) == len(set(offered))
    rows = Delivery.objects.all()
    assert rows.filter(state="accepted").count() == len(offered)
    assert set(rows.exclude(state="accepted").values_list("state", "reason")) <= {("skipped", "same_address")}
    assert not services.progress(message, now=now).counts.get("unknown")

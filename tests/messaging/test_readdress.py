"""A mail that did not arrive goes to the person's address of now."""

from collections.abc import Callable
from datetime import datetime

import pytest

from accounts.models import Suppression, User
from groups.models import Contact
from groups.services import change_address
from messaging import services
from messaging.models import Delivery, Message
from messaging.services import CannotSteer

pytestmark = pytest.mark.django_db


@pytest.fixture
def lost(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    owner: User,
    now: datetime,
) -> Delivery:
    """One whose address must not be written to; the others are told."""
    Suppression.objects.create(address_key="p0@example.net", reason="bounce", created_at=now)
    message = start(confirm(draft))
    Delivery.objects.filter(state="planned").update(state="accepted")
    message.chunks.update(state="done")
    services.finish_message(message.pk, now=now)
    delivery = Delivery.objects.select_related("contact").get(state="suppressed")
    change_address(delivery.contact, "new@example.net", by=owner, now=now)
    return delivery


def test_it_waits_to_go_to_the_new_address_and_its_cap_is_charged_anew(
    lost: Delivery, owner: User, now: datetime
) -> None:
    assert services.readdress(lost, by=owner, now=now)
    lost.refresh_from_db()
    assert (lost.address_key, lost.state, lost.charged_at) == ("new@example.net", "planned", None)
    message = Message.objects.get()
    assert message.state == "running"
    assert services.progress(message, now=now).counts == {"accepted": 4, "planned": 1}


def test_twice_changes_nothing(lost: Delivery, owner: User, now: datetime) -> None:
    services.readdress(lost, by=owner, now=now)
    assert not services.readdress(lost, by=owner, now=now)


def test_what_arrived_goes_nowhere_else(lost: Delivery, owner: User, now: datetime) -> None:
    told = Delivery.objects.filter(state="accepted").select_related("contact")[0]
    change_address(told.contact, "other@example.net", by=owner, now=now)
    assert not services.readdress(told, by=owner, now=now)
    told.refresh_from_db()
    assert (told.state, told.address_key) == ("accepted", "p1@example.net")


def test_an_address_that_the_message_went_to_already_is_refused(
    lost: Delivery, owner: User, now: datetime
) -> None:
    Contact.objects.filter(address_key="p1@example.net").update(address_key="moved@example.net")
    change_address(lost.contact, "p1@example.net", by=owner, now=now)
    with pytest.raises(CannotSteer, match="went to that address already"):
        services.readdress(lost, by=owner, now=now)
    lost.refresh_from_db()
    assert (lost.state, lost.address_key) == ("suppressed", "p0@example.net")


def test_of_a_cancelled_message_nothing_goes(lost: Delivery, owner: User, now: datetime) -> None:
    Message.objects.update(state="cancelled", done_at=now)
    with pytest.raises(CannotSteer):
        services.readdress(lost, by=owner, now=now)
    lost.refresh_from_db()
    assert lost.address_key == "p0@example.net"

"""M2: who holds all of it is told nothing, and a message that turns out to tell nobody gives its slot back."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from accounts.models import Suppression, User
from accounts.services import suppress
from groups.models import Contact, Group
from library.models import BundleVersion
from library.services import add_holdings
from messaging import services, throttle
from messaging.models import Chunk, Message, Preference, SendSlot
from messaging.services import NothingNew
from tests.factories import MembershipFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def hold_all(member: User, draft: Message) -> Callable[[datetime], None]:
    """The member has every version of the release already, from elsewhere."""

    def hold(at: datetime) -> None:
        versions = list(BundleVersion.objects.all())
        users = User.objects.filter(pk=member.pk).values_list("pk")
        add_holdings(
            users, versions=versions, origin_key="gift:1", title="A gift", group_name="", given_at=at
        )

    return hold


def refused(message: Message, owner: User, now: datetime) -> NothingNew:
    with pytest.raises(NothingNew) as caught:
        services.confirm_message(message, request_id=uuid4(), due_at=now, by=owner, now=now)
    assert not SendSlot.objects.exists()
    return caught.value


def test_a_message_whose_every_reader_holds_all_of_it_is_refused_with_a_way_out(
    draft: Message, contact: Contact, hold_all: Callable[[datetime], None], owner: User, now: datetime
) -> None:
    hold_all(now - DAY)
    why = refused(draft, owner, now)
    assert "Nothing of this is new" in str(why)
    assert why.can_publish
    assert str(why) in services.outlook(draft, now=now).refusals


def test_those_who_cannot_be_written_to_make_nothing_new(
    draft: Message,
    contact: Contact,
    hobbyist: Group,
    hold_all: Callable[[datetime], None],
    owner: User,
    now: datetime,
) -> None:
    hold_all(now - DAY)
    other = MembershipFactory.create(group=hobbyist).contact
    suppress(other.address_key, Suppression.Reason.BOUNCE, now=now)
    refused(draft, owner, now)


def test_one_who_lacks_it_is_enough(
    draft: Message,
    contact: Contact,
    people: list[Contact],
    hold_all: Callable[[datetime], None],
    confirm: Callable[..., Message],
    now: datetime,
) -> None:
    hold_all(now - DAY)
    assert confirm(draft).state == Message.State.CONFIRMED


def test_one_who_is_told_in_the_digest_is_enough(
    draft: Message, contact: Contact, confirm: Callable[..., Message], now: datetime
) -> None:
    services.set_preference(contact, Preference.Choice.WEEKLY, now=now)
    assert confirm(draft).state == Message.State.CONFIRMED


def ended(message: Message, hobbyist: Group, now: datetime) -> str:
    """The words of a message that ended with its slot given back and no mail."""
    message.refresh_from_db()
    assert (message.state, message.done_at) == (Message.State.DONE, now)
    assert not Chunk.objects.filter(message=message, state=Chunk.State.OPEN).exists()
    assert throttle.meter(hobbyist, now).week_used == 0
    progress = services.progress(message, now=now)
    assert progress.stage == "done"
    assert progress.waits_because.endswith("It used none of your messages.")
    return progress.waits_because


def test_it_is_decided_when_the_audience_is_taken_and_the_slot_is_free_again(
    draft: Message,
    contact: Contact,
    hobbyist: Group,
    hold_all: Callable[[datetime], None],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    mailoutbox: list[object],
    now: datetime,
) -> None:
    message = confirm(draft, due_at=now + DAY)
    hold_all(now)
    start(message, at=now + DAY)
    assert not services.begin_sending(message.pk, now=now + DAY)
    assert "holds all of it already" in ended(message, hobbyist, now + DAY)
    work(at=now + DAY)
    assert not mailoutbox


def test_an_audience_that_asked_for_no_mail_meanwhile_uses_no_slot(
    draft: Message,
    contact: Contact,
    hobbyist: Group,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    message = confirm(draft)
    services.set_preference(contact, Preference.Choice.NOTHING, now=now)
    start(message)
    assert "nobody it is for can be written to" in ended(message, hobbyist, now)


def test_an_audience_that_left_meanwhile_uses_no_slot(
    draft: Message,
    contact: Contact,
    hobbyist: Group,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    message = confirm(draft, due_at=now + DAY)
    contact.memberships.update(ended_at=now)
    start(message, at=now + DAY)
    assert "nobody it is for" in ended(message, hobbyist, now + DAY)


def test_one_that_is_told_in_the_digest_alone_uses_no_slot_and_still_waits_to_be_told(
    draft: Message,
    contact: Contact,
    hobbyist: Group,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    services.set_preference(contact, Preference.Choice.WEEKLY, now=now)
    message = start(confirm(draft))
    assert "asked for one mail a week" in ended(message, hobbyist, now)
    assert message.held == 1

"""Real threads on a real database: the recipients' caps, the ramp, a breaker and a scheduled time, all at once."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest
from django.db import transaction

from accounts.models import AuditEvent, Letter, User
from distribution.models import Release
from distribution.services import AlreadyGiving, fan_out_grants
from groups.models import Contact, Creator, Group
from messaging import breakers, ramp, recipient_cap, services
from messaging.models import Chunk, Delivery, Message, Ramp, RecentMail, SendSlot
from tests.factories import BundleFactory, ContactFactory, CreatorFactory, ReleaseFactory
from tests.messaging.test_dry_run import Script
from tests.messaging.test_races import all_at_once
from tests.messaging.test_recipient_cap import charge, chunk_to

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

DAY = timedelta(days=1)


def test_eight_messages_race_for_one_audiences_cap_and_exactly_the_cap_goes_out(
    hobbyist: Group, people: list[Contact], owner: User, now: datetime
) -> None:
    messages = []
    for number in range(8):
        bundle = BundleFactory.create(creator=hobbyist.creator)
        release = ReleaseFactory.create(creator=hobbyist.creator, bundles=[bundle], groups=[hobbyist])
        message = services.start_message(release)
        message.subject = f"No. {number}"
        message.save()
        services.confirm_message(
            message, request_id=uuid4(), due_at=now + number * 8 * DAY, by=owner, now=now
        )
        messages.append(message)
    # Away for two months: all of them are due at once, and the group's cap is out of the way.
    late = now + 60 * DAY
    Message.objects.update(due_at=now)
    Release.objects.update(publish_at=now)
    SendSlot.objects.update(released_at=now)
    for message in messages:
        fan_out_grants(message.release_id, now=late)
        services.plan_deliveries(message.pk, now=late)
        Message.objects.filter(pk=message.pk).update(
            state=Message.State.RUNNING, started_at=late, done_at=None
        )
    # Every worker has opened its chunk before any lets go of one, so nobody tells of another's.
    chunks = Chunk.objects.select_related("message")
    scripts = [Script() for _each in messages]

    def send(chunk: Chunk, script: Script) -> None:
        with transaction.atomic():
            charge(chunk, late)
        script.taken += Delivery.objects.of(chunk).due(late).values_list("address_key", flat=True)

    results = all_at_once(
        [partial(send, chunk, script) for chunk, script in zip(chunks, scripts, strict=True)]
    )
    assert results == [None] * 8
    mails = Counter(address for script in scripts for address in script.taken)
    assert mails == {contact.address_key: 3 for contact in people}
    assert Delivery.objects.filter(state=Delivery.State.HELD, reason="cap").count() == 5 * len(people)


def test_eight_workers_send_what_eight_messages_owe_and_nobody_gets_more_than_the_cap(
    hobbyist: Group, people: list[Contact], now: datetime
) -> None:
    chunks = [chunk_to(people) for _each in range(8)]
    opened = all_at_once(
        [partial(services.open_chunk, owner=f"here:{n}", now=now) for n in range(len(chunks))]
    )
    assert not [result for result in opened if isinstance(result, Exception)]
    charged = Counter(Delivery.objects.filter(charged_at__isnull=False).values_list("address_key", flat=True))
    assert max(charged.values(), default=0) <= 3


def test_creators_who_write_to_the_same_people_from_both_ends_never_wait_for_each_other(
    now: datetime,
) -> None:
    addresses = [f"p{number:03}@example.net" for number in range(60)]
    creators = CreatorFactory.create_batch(6)
    chunks = []
    for turn, creator in enumerate(creators):
        # Every other creator met them in the opposite order.
        order = addresses if turn % 2 else addresses[::-1]
        contacts = [ContactFactory.create(creator=creator, address_key=address) for address in order]
        chunks += [chunk_to(contacts) for _each in range(2)]

    def open_and_open_again(chunk: Chunk) -> None:
        for hours in range(3):
            with transaction.atomic():
                # As opening does: one of a creator's at a time.
                Creator.objects.select_for_update(no_key=True).get(pk=chunk.message.release.creator_id)
                charge(chunk, now + timedelta(hours=hours))

    results = all_at_once([partial(open_and_open_again, chunk) for chunk in chunks])
    assert results == [None] * 12
    mails = Counter(Delivery.objects.filter(state="planned").values_list("address_key", flat=True))
    assert mails == dict.fromkeys(addresses, 10)
    assert {len(row.times) for row in RecentMail.objects.filter(sender=0)} == {140}


def test_what_is_given_back_while_others_charge_makes_room_once(people: list[Contact], now: datetime) -> None:
    creator_id = people[0].creator_id
    before = [chunk_to(people) for _each in range(3)]
    for chunk in before:
        charge(chunk, now)
    cancelled = Delivery.objects.of(before[0])
    give = partial(recipient_cap.give_back, cancelled, creator_id=creator_id)
    results = all_at_once([give, give, give])
    assert results == [None] * 3
    late = [chunk_to(people) for _each in range(4)]
    all_at_once([partial(charge, chunk, now) for chunk in late])
    planned = Delivery.objects.filter(message__in=[chunk.message_id for chunk in late], state="planned")
    assert Counter(planned.values_list("address_key", flat=True)) == {
        contact.address_key: 1 for contact in people
    }


def test_a_days_number_is_exact_however_many_chunks_are_opened_at_once(
    creator: Creator, stranger: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ramp, "STAGES", (7, 20, 50))
    contacts = ContactFactory.create_batch(3, creator=creator)
    chunks = [chunk_to(contacts) for _each in range(8)]
    all_at_once([partial(ramp.hold_back, chunk, creator=creator, now=now) for chunk in chunks])
    assert Delivery.objects.filter(not_before=None).count() == 7
    assert Ramp.objects.values_list("used", "stage").get() == (7, 0)


def test_of_many_who_notice_one_stops_the_creator_and_alarms_once(
    people: list[Contact], now: datetime
) -> None:
    root = User.objects.create_superuser(email="root@example.org", password=None)
    root.emailaddress_set.create(email=root.email, verified=True, primary=True)
    message = chunk_to(people).message
    results = all_at_once([partial(breakers.count_bounce, message.pk, 1, now=now)] * 12)
    assert sum(result is True for result in results) == 1
    assert Message.objects.get().bounced == 12
    assert AuditEvent.objects.filter(verb="paused creator").count() == 1
    assert Letter.objects.filter(kind="alarm").count() == 1


def test_a_message_is_moved_or_begun_and_never_both(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], owner: User, now: datetime
) -> None:
    message = confirm(draft)
    gate = threading.Event()

    def move() -> None:
        services.reschedule_message(message, due_at=now + 5 * DAY, by=owner, now=now)

    def begin() -> bool:
        gate.wait(0.01)
        return fan_out_grants(message.release_id, now=now)

    for _round in range(5):
        moved, *begun = all_at_once([move, begin, begin, begin])
        release = Release.objects.get()
        message.refresh_from_db()
        slot = SendSlot.objects.get(released_at=None)
        assert {release.publish_at, message.due_at, slot.at} in ({now}, {now + 5 * DAY})
        if moved is None:
            assert (release.state, begun) == (Release.State.CONFIRMED, [False] * 3)
            assert release.publish_at == now + 5 * DAY
            services.reschedule_message(message, due_at=now, by=owner, now=now)
        else:
            assert isinstance(moved, AlreadyGiving)
            assert release.publish_at == now
            return


def test_a_member_of_two_creators_is_not_written_to_by_both_at_once_beyond_the_sites_cap(
    now: datetime,
) -> None:
    contacts = [ContactFactory.create(address_key="mia@example.org") for _each in range(8)]
    chunks = [chunk_to([contact]) for contact in contacts for _each in range(2)]
    assert all_at_once([partial(charge, chunk, now) for chunk in chunks]) == [None] * 16
    assert Delivery.objects.filter(state="planned").count() == 10
    # Those whom the installation's cap refused have not used their creator's.
    own = [row.times.count(" ") for row in RecentMail.objects.exclude(sender=0)]
    assert sum(own) == 10

"""Once more, to those who have not redeemed it (M6)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.core import mail

from accounts.models import User
from distribution.models import Release
from distribution.services import (
    AlreadyGiving,
    fan_out_grants,
    publish_release,
    recall_release,
    redeem_grant,
    revoke_grant,
    settle_waiting,
)
from groups.models import Contact, Group
from messaging import services, throttle
from messaging.models import Delivery, Message, Preference, SendSlot
from messaging.services import AlreadyConfirmed, NobodyToTell, NotReady, TooEarly, TooSoon
from tests.factories import ContactFactory, MembershipFactory, ReleaseFactory, UserFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def told(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
) -> Release:
    """A release of which five people were told, at `now`."""
    start(confirm(draft))
    work()
    mail.outbox.clear()
    return draft.release


def redeem(contact: Contact, release: Release, *, at: datetime) -> None:
    user = UserFactory.create(email=contact.address_key)
    redeem_grant(contact.grants.get(release=release), user=user, now=at)


def outcomes(message: Message) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for pair in Delivery.objects.filter(message=message).values_list("state", "reason"):
        found[pair] = found.get(pair, 0) + 1
    return found


def test_only_who_has_not_redeemed_is_reminded(
    told: Release,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    owner: User,
    now: datetime,
) -> None:
    redeem(people[0], told, at=now + DAY)
    revoke_grant(people[1].grants.get(), by=owner, now=now + DAY)
    then = now + 3 * DAY
    reminder = start(confirm(services.start_reminder(told, now=then), due_at=then, at=then), at=then)
    work(at=then)
    assert sorted(sent.to[0] for sent in mail.outbox) == [contact.address_key for contact in people[2:]]
    assert outcomes(reminder) == {("accepted", ""): 3}
    sent = mail.outbox[0]
    assert sent.subject == "Still waiting for you: November"
    for part in (str(sent.body), str(sent.alternatives[0][0])):
        assert "still has something for you" in part
        assert "/redeem/" in part
    # Charged to the groups' and to everybody's cap like an announcement.
    assert SendSlot.objects.filter(message=reminder, released_at=None).count() == 1
    assert Delivery.objects.filter(message=reminder, charged_at=then).count() == 3


def test_whose_library_holds_it_is_not_reminded_although_nobody_pressed(
    draft: Message,
    people: list[Contact],
    hobbyist: Group,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    known = ContactFactory.create(creator=hobbyist.creator, account=UserFactory.create())
    MembershipFactory.create(group=hobbyist, contact=known)
    start(confirm(draft))
    work()
    then = now + 4 * DAY
    reminder = start(confirm(services.start_reminder(draft.release, now=then), due_at=then, at=then), at=then)
    assert known.grants.get().redeemed_at is None
    assert not Delivery.objects.filter(message=reminder, contact=known).exists()
    assert outcomes(reminder) == {("planned", ""): 5}


def test_who_redeems_after_planning_is_dropped_when_the_chunk_opens(
    told: Release,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    then = now + 3 * DAY
    reminder = start(confirm(services.start_reminder(told, now=then), due_at=then, at=then), at=then)
    redeem(people[0], told, at=then)
    work(at=then)
    assert outcomes(reminder) == {("accepted", ""): 4, ("skipped", "redeemed"): 1}
    assert Delivery.objects.get(message=reminder, contact=people[0]).said == "has redeemed it"


def test_not_before_three_days_and_the_refusal_says_when(
    told: Release, confirm: Callable[..., Message], now: datetime
) -> None:
    draft = services.start_reminder(told, now=now)
    for early in (now, now + 3 * DAY - timedelta(seconds=1)):
        with pytest.raises(TooEarly, match="three days") as refused:
            confirm(draft, due_at=early, at=now)
        assert refused.value.next_at == now + 3 * DAY
    draft.refresh_from_db()
    assert draft.state == Message.State.DRAFT
    assert not SendSlot.objects.filter(message=draft).exists()
    # Scheduled for a time that is late enough, it may be confirmed today.
    assert confirm(draft, due_at=now + 3 * DAY, at=now).state == Message.State.CONFIRMED


def test_of_what_was_published_without_mail_the_days_count_from_the_giving(
    release: Release, people: list[Contact], owner: User, confirm: Callable[..., Message], now: datetime
) -> None:
    publish_release(release, publish_at=now, by=owner, now=now)
    fan_out_grants(release.pk, now=now)
    release.refresh_from_db()
    draft = services.start_reminder(release, now=now)
    with pytest.raises(TooEarly) as refused:
        confirm(draft)
    assert refused.value.next_at == now + 3 * DAY
    assert confirm(draft, due_at=now + 3 * DAY).state == Message.State.CONFIRMED


def test_once_for_each_release(
    told: Release, confirm: Callable[..., Message], owner: User, now: datetime
) -> None:
    then = now + 3 * DAY
    draft = services.start_reminder(told, now=then)
    assert services.start_reminder(told, now=then) == draft
    request_id = uuid4()

    def post(request_id: object) -> Message:
        return services.confirm_message(draft, request_id=request_id, due_at=then, by=owner, now=then)  # type: ignore[arg-type]

    assert post(request_id) == post(request_id)
    with pytest.raises(AlreadyConfirmed, match="reminded of this release already"):
        post(uuid4())
    assert Message.objects.filter(kind="reminder").count() == 1
    assert SendSlot.objects.filter(message=draft).count() == 1


def test_nobody_left_to_remind(
    told: Release, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> None:
    then = now + 3 * DAY
    draft = services.start_reminder(told, now=then)
    for contact in people[1:]:
        redeem(contact, told, at=now + DAY)
    services.set_preference(people[0], Preference.Choice.NOTHING, now=now)
    with pytest.raises(NobodyToTell, match="nobody left to remind"):
        confirm(draft, due_at=then, at=then)
    # Who is told in the digest counts.
    services.set_preference(people[0], Preference.Choice.WEEKLY, now=now)
    assert confirm(draft, due_at=then, at=then).state == Message.State.CONFIRMED


def test_the_groups_cap_holds_for_reminders_too(
    told: Release, confirm: Callable[..., Message], hobbyist: Group, now: datetime
) -> None:
    throttle.set_chosen(hobbyist, week=1, month=6, by=hobbyist.creator.staff.get().user, now=now)
    draft = services.start_reminder(told, now=now)
    with pytest.raises(TooSoon) as refused:
        confirm(draft, due_at=now + 3 * DAY, at=now + 3 * DAY)
    assert refused.value.next_at == now + 7 * DAY


def test_only_of_what_was_given(
    told: Release, confirm: Callable[..., Message], owner: User, now: datetime
) -> None:
    then = now + 3 * DAY
    draft = services.start_reminder(told, now=then)
    recall_release(told, because="Wrong file", by=owner, now=now)
    told.refresh_from_db()
    with pytest.raises(NotReady, match="recalled"):
        services.start_reminder(told, now=then)
    with pytest.raises(NotReady, match="recalled"):
        confirm(draft, due_at=then, at=then)
    coming = ReleaseFactory.create(creator=told.creator)
    with pytest.raises(NotReady, match="given already"):
        services.start_reminder(coming, now=then)


def test_a_scheduled_reminder_can_be_taken_back_until_its_mails_are_planned(
    told: Release, confirm: Callable[..., Message], start: Callable[..., Message], now: datetime
) -> None:
    then = now + 3 * DAY
    draft = services.start_reminder(told, now=now)
    services.unschedule_message(draft, now=now)
    confirm(draft, due_at=then)
    services.unschedule_message(draft, now=now)
    draft.refresh_from_db()
    told.refresh_from_db()
    assert (draft.state, told.state) == (Message.State.DRAFT, Release.State.PUBLISHED)
    assert not SendSlot.objects.filter(message=draft, released_at=None).exists()
    start(confirm(draft, due_at=then), at=then)
    with pytest.raises(AlreadyGiving):
        services.unschedule_message(draft, now=then)


def test_who_signed_in_meanwhile_has_it_and_is_not_reminded(
    told: Release,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    settle_waiting(UserFactory.create(email=people[0].address_key), now=now + DAY)
    then = now + 3 * DAY
    reminder = start(confirm(services.start_reminder(told, now=then), due_at=then, at=then), at=then)
    assert outcomes(reminder) == {("planned", ""): 4}

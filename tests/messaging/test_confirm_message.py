from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from accounts.models import AuditEvent, Suppression, User
from accounts.services import suppress
from distribution.models import Release, ReleaseItem
from distribution.services import AlreadyConfirmed as ReleaseConfirmed
from distribution.services import AlreadyGiving, fan_out_grants
from groups.models import Contact, Creator, Group
from library.models import BundleVersion, Upload
from messaging import services, throttle
from messaging.models import Message, Preference, SendSlot
from messaging.services import ConfirmRefused, plan
from rows.lease import take_lease
from tests.factories import BundleFactory, MembershipFactory, ReleaseFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def refused(draft: Message, owner: User, now: datetime) -> Callable[..., ConfirmRefused]:
    """Why the draft is refused; nothing may have changed by it."""

    def why(kind: type[ConfirmRefused], *, due_at: datetime = now) -> ConfirmRefused:
        slots, events = SendSlot.objects.count(), AuditEvent.objects.count()
        with pytest.raises(kind) as caught:
            services.confirm_message(draft, request_id=uuid4(), due_at=due_at, by=owner, now=now)
        draft.refresh_from_db()
        assert (draft.state, draft.request_id, draft.due_at) == (Message.State.DRAFT, None, None)
        assert draft.release.state == Release.State.DRAFT
        assert not ReleaseItem.objects.filter(version__isnull=False).exists()
        assert (SendSlot.objects.count(), AuditEvent.objects.count()) == (slots, events)
        return caught.value

    return why


def test_a_confirmed_message_has_its_time_its_slot_and_pinned_versions(
    draft: Message, people: list[Contact], hobbyist: Group, confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft, due_at=now + DAY)
    assert (message.state, message.due_at) == (Message.State.CONFIRMED, now + DAY)
    release = Release.objects.get()
    assert (release.state, release.publish_at) == (Release.State.CONFIRMED, now + DAY)
    slot = SendSlot.objects.get()
    assert (slot.group, slot.at) == (hobbyist, now + DAY)
    assert ReleaseItem.objects.get().version == BundleVersion.objects.get()


def test_a_time_in_the_past_means_now(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> None:
    assert confirm(draft, due_at=now - DAY).due_at == now


@pytest.mark.parametrize("due_at", ["2027-12-01T00:00Z", "9999-12-31T23:59Z"])
def test_a_time_too_far_away_is_refused(
    people: list[Contact], refused: Callable[..., ConfirmRefused], due_at: str
) -> None:
    assert "twelve months" in str(refused(services.NotReady, due_at=datetime.fromisoformat(due_at)))


def test_the_same_form_posted_again_gets_the_message_it_confirmed(
    draft: Message, people: list[Contact], owner: User, now: datetime
) -> None:
    request_id = uuid4()
    for _twice in range(2):
        message = services.confirm_message(draft, request_id=request_id, due_at=now, by=owner, now=now)
        assert message.request_id == request_id
    assert SendSlot.objects.count() == 1


def test_another_form_for_a_confirmed_message_is_refused(
    draft: Message, people: list[Contact], confirm: Callable[..., Message]
) -> None:
    confirm(draft)
    with pytest.raises(services.AlreadyConfirmed):
        confirm(draft)


def test_a_group_that_had_its_messages_is_refused_with_the_next_time_and_two_ways_out(
    draft: Message,
    people: list[Contact],
    hobbyist: Group,
    refused: Callable[..., ConfirmRefused],
    owner: User,
    now: datetime,
) -> None:
    for _each in range(2):
        other = Message.objects.create(release=ReleaseFactory.create(creator=hobbyist.creator))
        throttle.charge(other, [hobbyist], at=now, now=now)
    why = refused(services.TooSoon)
    assert why.next_at == now + 7 * DAY
    assert why.can_publish
    assert "at most 2 messages in any 7 days" in str(why)
    # Both of them work.
    services.confirm_message(draft, request_id=uuid4(), due_at=why.next_at, by=owner, now=now)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"approved_at": None}, services.CannotSend, "not approved yet"),
        ({"paused_at": datetime.fromisoformat("2026-11-20T00:00Z")}, services.CannotSend, "paused"),
        ({"postal_address": " \n"}, services.CannotSend, "postal address"),
        ({"reply_to": ""}, services.CannotSend, "reply-to"),
    ],
)
def test_a_creator_who_may_not_send_is_told_why(
    people: list[Contact],
    creator: Creator,
    refused: Callable[..., ConfirmRefused],
    change: dict[str, object],
    kind: type[ConfirmRefused],
    says: str,
) -> None:
    Creator.objects.filter(pk=creator.pk).update(**change)
    assert says in str(refused(kind))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subject": "  "}, "subject"),
        ({"subject": "Hi {nmae}"}, "no placeholder {nmae}"),
        ({"body": "Hi {surname}"}, "no placeholder {surname}"),
        ({"body": "[x](javascript:alert(1))"}, "The link"),
        ({"body": "- a\n" * 5000}, "shorter"),
    ],
)
def test_words_that_cannot_go_out_are_refused(
    draft: Message,
    people: list[Contact],
    refused: Callable[..., ConfirmRefused],
    change: dict[str, str],
    says: str,
) -> None:
    Message.objects.filter(pk=draft.pk).update(**change)
    assert says in str(refused(services.NotReady))


@pytest.mark.parametrize("attached", ["nothing", "an empty bundle", "one of two empty"])
def test_no_attachment_no_send(
    draft: Message,
    people: list[Contact],
    creator: Creator,
    refused: Callable[..., ConfirmRefused],
    attached: str,
) -> None:
    if attached != "one of two empty":
        draft.release.items.all().delete()
    if attached != "nothing":
        ReleaseItem.objects.create(
            release=draft.release, bundle=BundleFactory.create(creator=creator, files=0)
        )
    assert "attach at least one bundle" in str(refused(services.NothingAttached))


def test_a_bundle_with_a_file_on_its_way_is_refused(
    draft: Message, people: list[Contact], refused: Callable[..., ConfirmRefused], now: datetime
) -> None:
    Upload.objects.create(
        bundle=draft.release.items.get().bundle,
        path="wing.stl",
        size=9,
        part_size=9,
        storage_key="k",
        storage_upload_id="u",
        created_at=now,
        touched_at=now,
    )
    assert "still being uploaded" in str(refused(services.NotReady))


def test_a_message_that_nobody_would_get_is_refused(
    draft: Message,
    people: list[Contact],
    refused: Callable[..., ConfirmRefused],
    now: datetime,
) -> None:
    suppress(people[0].address_key, Suppression.Reason.BOUNCE, now=now)
    for contact in people[1:]:
        services.set_preference(contact, Preference.Choice.NOTHING, now=now)
    assert refused(services.NobodyToTell).can_publish


def test_an_audience_without_members_is_nobody(
    draft: Message, refused: Callable[..., ConfirmRefused]
) -> None:
    refused(services.NobodyToTell)


def test_taken_back_it_is_a_draft_again_its_slot_is_free_and_it_can_be_confirmed_anew(
    draft: Message, people: list[Contact], hobbyist: Group, confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft, due_at=now + DAY)
    for _twice in range(2):
        services.unschedule_message(message, now=now)
    draft.refresh_from_db()
    assert (draft.state, draft.request_id, draft.due_at) == (Message.State.DRAFT, None, None)
    assert draft.release.state == Release.State.DRAFT
    assert throttle.meter(hobbyist, now + DAY).week_used == 0
    assert confirm(draft).state == Message.State.CONFIRMED


def test_one_that_was_cancelled_and_is_a_draft_again_remembers_nothing_of_that(
    draft: Message, people: list[Contact], owner: User, confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft, due_at=now + DAY)
    services.pause_message(message, by=owner, now=now)
    services.resume_message(message, by=owner, now=now)
    services.cancel_message(message, by=owner, now=now)
    draft.refresh_from_db()
    assert draft.done_at == now
    services.unschedule_message(message, now=now)
    draft.refresh_from_db()
    assert (draft.state, draft.done_at, draft.moved_at, draft.progress_at) == ("draft", None, None, None)
    again = confirm(draft)
    again.refresh_from_db()
    assert again.done_at is None


@pytest.mark.parametrize(
    "life",
    [
        {"state": "confirmed", "done_at": True},
        {"state": "cancelled", "done_at": None},
        {"state": "draft", "done_at": True},
        {"state": "draft", "stalled_at": True},
        {"state": "draft", "waits_because": "It is late."},
    ],
)
def test_a_state_and_its_times_belong_together(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    now: datetime,
    life: dict[str, Any],
) -> None:
    message = confirm(draft)
    values = {name: now if value is True else value for name, value in life.items()}
    with pytest.raises(IntegrityError), transaction.atomic():
        Message.objects.filter(pk=message.pk).update(**values)


def test_a_worker_that_begins_to_plan_a_message_taken_back_stops(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft)
    assert take_lease(message, seconds=60)
    services.unschedule_message(message, now=now)
    with pytest.raises(plan.LeaseLost):
        plan._ours(message, planned_at=now)


def test_what_is_being_given_cannot_be_taken_back(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)
    with pytest.raises(AlreadyGiving):
        services.unschedule_message(message, now=now)
    message.refresh_from_db()
    assert message.state == Message.State.CONFIRMED
    assert SendSlot.objects.filter(released_at=None).count() == 1


def test_a_draft_is_discarded_with_its_message_but_nothing_that_was_confirmed(
    draft: Message, people: list[Contact], confirm: Callable[..., Message]
) -> None:
    confirm(draft)
    with pytest.raises(ReleaseConfirmed):
        services.discard_draft(draft.release)
    other = services.start_message(ReleaseFactory.create(creator=draft.release.creator))
    for _twice in range(2):
        services.discard_draft(other.release)
        other.release.pk = other.release_id
    assert list(Message.objects.all()) == [draft]


def test_the_outlook_names_everything_that_stands_in_the_way(
    draft: Message, people: list[Contact], creator: Creator, hobbyist: Group, now: datetime
) -> None:
    Message.objects.filter(pk=draft.pk).update(subject="")
    Creator.objects.filter(pk=creator.pk).update(postal_address="")
    draft.refresh_from_db()
    MembershipFactory.create(group=hobbyist, ended_at=now)
    found = services.outlook(draft, now=now)
    assert (found.people, found.mailed) == (5, 5)
    assert found.verdict.allowed
    assert [sentence.split()[0] for sentence in found.refusals] == ["Mail", "The"]

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from django.db.models import F

from accounts.models import Suppression, User
from accounts.services import suppress
from distribution.models import Grant, Release
from distribution.services import fan_out_grants
from groups.models import Contact, Group
from library.services import add_holdings
from messaging import services
from messaging.models import Chunk, Delivery, Message, Preference, SendSlot
from messaging.services import plan
from rows.clock import db_now
from tests.factories import BundleFactory, ContactFactory, MembershipFactory, ReleaseFactory, UserFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def crowd(people: list[Contact], hobbyist: Group, release: Release, now: datetime) -> list[Contact]:
    """Five who are mailed; one suppressed, one who asked for none, one who holds it all, and one who is both."""
    holder, both = UserFactory.create(), UserFactory.create()
    more = [
        ContactFactory.create(creator=hobbyist.creator, address_key="gone@example.net"),
        ContactFactory.create(creator=hobbyist.creator),
        ContactFactory.create(creator=hobbyist.creator, account=holder),
        ContactFactory.create(creator=hobbyist.creator, account=both, address_key="both@example.net"),
        # Known, but holds nothing yet.
        ContactFactory.create(creator=hobbyist.creator, account=UserFactory.create()),
    ]
    for contact in more:
        MembershipFactory.create(group=hobbyist, contact=contact)
    suppress("gone@example.net", Suppression.Reason.BOUNCE, now=now)
    suppress("both@example.net", Suppression.Reason.COMPLAINT, now=now)
    services.set_preference(more[1], Preference.Choice.NOTHING, now=now)
    add_holdings(
        User.objects.filter(pk__in=[holder.pk, both.pk]).values_list("pk", flat=True),
        versions=[release.items.get().bundle.versions.get()],
        origin_key="release:0",
        title="Before",
        group_name="Patrons",
        given_at=now - DAY,
    )
    return [*people, *more]


def outcomes() -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for pair in Delivery.objects.values_list("state", "reason"):
        found[pair] = found.get(pair, 0) + 1
    return found


def test_planning_does_what_the_dry_run_said(
    draft: Message,
    crowd: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    before = services.outlook(draft, now=now)
    assert (before.people, before.mailed, before.suppressed, before.no_mail, before.holds_all) == (
        10,
        6,
        2,
        1,
        1,
    )
    message = start(confirm(draft))
    assert outcomes() == {
        ("planned", ""): 6,
        ("suppressed", "suppressed"): 2,
        ("skipped", "no_mail"): 1,
        ("skipped", "holds_all"): 1,
    }
    assert message.planned == Grant.objects.count() == 10
    assert set(Delivery.objects.values_list("grant", "contact", "address_key")) == set(
        Grant.objects.values_list("pk", "contact", "contact__address_key")
    )


@pytest.mark.parametrize("page", [1, 3, 4, 10, 50])
def test_pages_and_chunks_hold_everyone_once(
    draft: Message,
    crowd: list[Contact],
    confirm: Callable[..., Message],
    now: datetime,
    page: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 2)
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)
    assert services.plan_deliveries(message.pk, now=now, page=page)
    chunks = list(Chunk.objects.order_by("number"))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert chunks[0].after == 0
    assert all(before.until == after.after for before, after in pairwise(chunks))
    assert [Delivery.objects.of(chunk).tally() for chunk in chunks] == [chunk.tally for chunk in chunks]
    assert sum(sum(chunk.tally.values()) for chunk in chunks) == 10


def test_planning_twice_or_while_another_worker_plans_changes_nothing(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)
    Message.objects.filter(pk=message.pk).update(lease_until=db_now() + DAY)
    assert not services.plan_deliveries(message.pk, now=now)
    assert not Delivery.objects.exists()
    Message.objects.filter(pk=message.pk).update(lease_until=None)
    assert services.plan_deliveries(message.pk, now=now)
    assert not services.plan_deliveries(message.pk, now=now)
    assert (Delivery.objects.count(), Chunk.objects.count()) == (5, 1)


def test_nothing_is_planned_before_everyone_has_the_files_or_while_the_creator_is_paused(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime
) -> None:
    message = confirm(draft, due_at=now + DAY)
    assert not services.plan_deliveries(message.pk, now=now)
    assert not services.plan_deliveries(message.pk, now=now + DAY)
    fan_out_grants(message.release_id, now=now + DAY)
    creator = message.release.creator
    type(creator).objects.filter(pk=creator.pk).update(paused_at=now)
    assert not services.plan_deliveries(message.pk, now=now + DAY)


def test_a_worker_that_lost_its_lease_writes_nothing_more(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)

    cut = plan._cut_chunks

    def overtaken(ours: Message, **bounds: int) -> None:
        cut(ours, **bounds)
        Message.objects.filter(pk=ours.pk).update(epoch=F("epoch") + 1)

    monkeypatch.setattr(plan, "_cut_chunks", overtaken)
    assert not services.plan_deliveries(message.pk, now=now, page=2)
    message.refresh_from_db()
    assert message.planned_at is None
    # The page before the loss stands, and the next worker goes on behind it.
    assert Delivery.objects.count() == 2
    monkeypatch.setattr(plan, "_cut_chunks", cut)
    Message.objects.filter(pk=message.pk).update(lease_until=None)
    assert services.plan_deliveries(message.pk, now=now, page=2)
    assert Delivery.objects.count() == 5


def test_a_grant_that_came_behind_the_cursor_is_still_planned(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)
    late = Grant.objects.order_by("contact").first()
    assert late is not None
    kept = (late.release_id, late.contact_id)
    late.delete()

    pages = plan._plan_pages

    def pages_then_late(ours: Message, page: int) -> None:
        pages(ours, page)
        Grant.objects.get_or_create(release_id=kept[0], contact_id=kept[1], defaults={"granted_at": now})

    monkeypatch.setattr(plan, "_plan_pages", pages_then_late)
    assert services.plan_deliveries(message.pk, now=now)
    message.refresh_from_db()
    assert message.planned == 5
    chunk = Chunk.objects.get()
    assert chunk.tally == {"planned": 5}


@pytest.mark.parametrize("page", [1, 2, 50])
def test_an_address_that_changed_hands_while_planning_is_written_to_once_and_that_is_said(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], now: datetime, page: int
) -> None:
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)
    first, last = people[0], people[-1]
    # Planned under the address that the last one has by now.
    Delivery.objects.create(
        message=message,
        grant=Grant.objects.get(contact=first),
        contact=first,
        address_key=last.address_key,
        state=Delivery.State.PLANNED,
    )
    assert services.plan_deliveries(message.pk, now=now, page=page)
    assert Delivery.objects.get(contact=last).reason == Delivery.Reason.SAME_ADDRESS
    assert outcomes() == {("planned", ""): 4, ("skipped", "same_address"): 1}


def test_counts_that_do_not_add_up_are_shouted_about(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    now: datetime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = confirm(draft)
    fan_out_grants(message.release_id, now=now)
    Chunk.objects.create(message=message, number=0, after=0, until=0, tally={"planned": 3})
    services.plan_deliveries(message.pk, now=now)
    assert "its chunks count 8" in caplog.text


# --- beginning ------------------------------------------------------------------------------------------


def test_sending_begins_once_and_its_slot_stands_where_it_began(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    message = start(confirm(draft), at=now + DAY)
    assert (message.state, message.started_at) == (Message.State.RUNNING, now + DAY)
    assert SendSlot.objects.get().at == now + DAY
    assert not services.begin_sending(message.pk, now=now + 2 * DAY)
    assert SendSlot.objects.get().at == now + DAY


def test_a_late_message_waits_for_the_next_possible_time_and_says_so_while_the_files_are_there(
    draft: Message,
    people: list[Contact],
    hobbyist: Group,
    release: Release,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    back = now + 20 * DAY
    messages = []
    for week in range(3):
        bundle = BundleFactory.create(creator=release.creator)
        other = services.start_message(
            ReleaseFactory.create(creator=release.creator, bundles=[bundle], groups=[hobbyist])
        )
        Message.objects.filter(pk=other.pk).update(subject=f"Week {week}")
        messages.append(start(confirm(other, due_at=now + week * 5 * DAY), at=back))
    assert [message.state for message in messages] == ["running", "running", "confirmed"]
    late = messages[2]
    assert late.due_at == back + 7 * DAY
    assert "at most 2 messages in any 7 days" in late.waits_because
    assert late.release.grants.count() == 5
    assert services.progress(late, now=back).stage == "waiting"
    assert not services.begin_sending(late.pk, now=back + 6 * DAY)
    assert services.begin_sending(late.pk, now=back + 7 * DAY)
    late.refresh_from_db()
    assert late.waits_because == ""

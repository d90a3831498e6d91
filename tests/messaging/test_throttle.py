"""M2 and M3: at most N messages in every rolling window for each group."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from pytest_django import DjangoAssertNumQueries

from accounts.models import AuditEvent, User
from groups.models import Creator, Group
from messaging import throttle
from messaging.models import Cadence, Message, SendSlot
from messaging.throttle import AboveCeiling, CapReached, _Caps, _closed_spans, _next_legal
from tests.factories import CreatorFactory, GroupFactory, MembershipFactory, ReleaseFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


@pytest.fixture
def message_to(creator: Creator) -> Callable[..., Message]:
    def make(*groups: Group, started_at: datetime | None = None) -> Message:
        release = ReleaseFactory.create(creator=creator, groups=list(groups))
        return Message.objects.create(release=release)

    return make


@pytest.fixture
def tiers(hobbyist: Group, collector: Group, merchant: Group) -> list[Group]:
    """Three sub groups with a member each; the main group has none of its own."""
    for group in (hobbyist, collector, merchant):
        MembershipFactory.create(group=group)
    return [hobbyist, collector, merchant]


def send(
    message_to: Callable[..., Message], *groups: Group, at: datetime, now: datetime | None = None
) -> None:
    throttle.charge(message_to(*groups), groups, at=at, now=now or at)


def test_a_message_to_each_of_three_sub_groups_may_go_while_the_main_group_has_no_members(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    for hours, group in enumerate(tiers):
        send(message_to, group, at=now + timedelta(hours=hours))
    assert SendSlot.objects.count() == 3


def test_the_third_is_refused_once_the_main_group_has_a_member_who_would_get_them_all(
    message_to: Callable[..., Message], tiers: list[Group], patrons: Group, now: datetime
) -> None:
    MembershipFactory.create(group=patrons)
    send(message_to, tiers[0], at=now)
    send(message_to, tiers[1], at=now)
    with pytest.raises(CapReached) as refused:
        send(message_to, tiers[2], at=now)
    assert refused.value.next_at == now + 7 * DAY
    assert "“Patrons” gets at most 2 messages in any 7 days" in refused.value.reason
    assert "Sat 28 Nov. 2026, 13:00 (CET)" in refused.value.reason
    assert SendSlot.objects.count() == 4


def test_two_to_the_main_group_leave_none_for_a_sub_group(
    message_to: Callable[..., Message], tiers: list[Group], patrons: Group, now: datetime
) -> None:
    send(message_to, patrons, at=now)
    send(message_to, patrons, at=now)
    with pytest.raises(CapReached, match="Hobbyist"):
        send(message_to, tiers[0], at=now)


def test_two_to_a_sub_group_leave_none_for_the_main_group(
    message_to: Callable[..., Message], tiers: list[Group], patrons: Group, now: datetime
) -> None:
    send(message_to, tiers[0], at=now)
    send(message_to, tiers[0], at=now)
    with pytest.raises(CapReached, match="Hobbyist"):
        send(message_to, patrons, at=now)


def test_one_message_to_three_sub_groups_takes_one_slot_of_each(
    message_to: Callable[..., Message], tiers: list[Group], patrons: Group, now: datetime
) -> None:
    MembershipFactory.create(group=patrons)
    send(message_to, *tiers, at=now)
    assert list(SendSlot.objects.order_by("group").values_list("group", flat=True)) == sorted(
        group.pk for group in [patrons, *tiers]
    )


def test_former_members_and_archived_groups_charge_nothing(
    hobbyist: Group, collector: Group, patrons: Group, now: datetime
) -> None:
    MembershipFactory.create(group=hobbyist, ended_at=now)
    MembershipFactory.create(group=collector)
    Group.objects.filter(pk=collector.pk).update(archived_at=now)
    assert throttle.groups_charged([patrons], now=now) == []


def test_the_month_refuses_where_the_week_would_not(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    for week in range(3):
        send(message_to, tiers[0], at=now + week * 7 * DAY)
        send(message_to, tiers[0], at=now + week * 7 * DAY)
    with pytest.raises(CapReached, match="at most 6 messages in any 30 days") as refused:
        send(message_to, tiers[0], at=now + 21 * DAY)
    assert refused.value.next_at == now + 30 * DAY


def test_a_scheduled_message_reserves_its_slot_in_windows_before_and_after_it(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    send(message_to, tiers[0], at=now + 10 * DAY, now=now)
    send(message_to, tiers[0], at=now + 12 * DAY, now=now)
    for day in (6, 10, 16):
        found = throttle.verdict([tiers[0]], at=now + day * DAY, now=now)
        assert not found.allowed
        assert found.next_at == now + 17 * DAY
    for day in (5, 17):
        assert throttle.verdict([tiers[0]], at=now + day * DAY, now=now).allowed


def test_the_next_time_suits_every_group_of_the_message(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    for at in (now, now, now + 8 * DAY, now + 8 * DAY):
        send(message_to, tiers[0 if at == now else 1], at=at, now=now)
    found = throttle.verdict(tiers[:2], at=now, now=now)
    assert found.next_at == now + 15 * DAY


def test_a_refusal_writes_nothing_and_a_time_in_the_past_means_now(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    send(message_to, tiers[0], at=now - 90 * DAY, now=now)
    assert SendSlot.objects.get().at == now
    send(message_to, tiers[0], at=now)
    with pytest.raises(CapReached):
        send(message_to, tiers[0], tiers[1], at=now)
    assert SendSlot.objects.count() == 2
    assert SendSlot.objects.filter(group=tiers[1]).count() == 0


def test_charging_twice_moves_the_slot_and_adds_none(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    message = message_to(tiers[0])
    send(message_to, tiers[0], at=now)
    for at in (now, now + DAY):
        throttle.charge(message, [tiers[0]], at=at, now=now)
    assert message.slots.get().at == now + DAY


def test_a_slot_given_back_is_free_again(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    message = message_to(tiers[0])
    throttle.charge(message, [tiers[0]], at=now, now=now)
    send(message_to, tiers[0], at=now)
    for _twice in range(2):
        throttle.give_back(message, now=now)
    assert message.slots.get().released_at == now
    throttle.charge(message, [tiers[0]], at=now, now=now)
    assert message.slots.filter(released_at=None).count() == 1


def test_looking_writes_nothing(
    tiers: list[Group], now: datetime, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    throttle.verdict(tiers, at=now, now=now)
    for groups in (tiers[:1], tiers):
        with django_assert_num_queries(2):
            throttle.meters(groups, now=now)
    assert not Cadence.objects.exists()


def test_the_meter_agrees_with_the_verdict_and_says_how_many_are_left(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    send(message_to, tiers[0], at=now - 6 * DAY)
    send(message_to, tiers[0], at=now + 6 * DAY, now=now)
    meter = throttle.meter(tiers[0], now)
    # One behind and one ahead, but never both in one window with now.
    assert (meter.week_used, meter.week_cap, meter.month_used, meter.month_cap) == (1, 2, 2, 6)
    assert (meter.left, meter.allowed, meter.next_at) == (1, True, now)
    send(message_to, tiers[0], at=now)
    full = throttle.meter(tiers[0], now)
    assert (full.left, full.allowed) == (0, False)
    assert full.next_at == throttle.verdict([tiers[0]], at=now, now=now).next_at == now + 7 * DAY


# --- a message that starts late -------------------------------------------------------------------------


def test_a_late_start_moves_the_slot_to_the_first_offer_and_charges_nothing_again(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    message = message_to(tiers[0])
    throttle.charge(message, [tiers[0]], at=now, now=now)
    found = throttle.use(message, [tiers[0]], now=now + 3 * DAY)
    assert found.allowed
    assert message.slots.get().at == now + 3 * DAY


def test_messages_held_up_together_still_start_no_closer_than_the_cap_allows(
    message_to: Callable[..., Message], tiers: list[Group], now: datetime
) -> None:
    """Three were legal a week apart; the worker was away until all were overdue."""
    messages = [message_to(tiers[0]) for _ in range(3)]
    for week, message in enumerate(messages):
        throttle.charge(message, [tiers[0]], at=now + week * 4 * DAY, now=now)
    back = now + 30 * DAY
    verdicts = []
    for message in messages:
        verdicts.append(throttle.use(message, [tiers[0]], now=back))
        if verdicts[-1].allowed:
            Message.objects.filter(pk=message.pk).update(
                state="running",
                started_at=back,
                planned_at=back,
                due_at=back,
                request_id=f"{message.pk:032x}",
            )
    assert [found.allowed for found in verdicts] == [True, True, False]
    assert verdicts[2].next_at == back + 7 * DAY
    assert "Hobbyist" in verdicts[2].reason
    assert messages[2].slots.get().at == back + 7 * DAY


def test_members_who_came_after_confirming_are_charged_for_when_it_starts(
    message_to: Callable[..., Message], tiers: list[Group], patrons: Group, now: datetime
) -> None:
    message = message_to(tiers[0])
    throttle.charge(message, [tiers[0]], at=now + DAY, now=now)
    MembershipFactory.create(group=patrons)
    throttle.use(message, [tiers[0]], now=now + DAY)
    assert set(message.slots.values_list("group", flat=True)) == {tiers[0].pk, patrons.pk}


# --- ceilings -------------------------------------------------------------------------------------------


def test_a_raised_ceiling_lets_one_more_go_and_is_logged(
    message_to: Callable[..., Message], tiers: list[Group], owner: User, now: datetime
) -> None:
    send(message_to, tiers[0], at=now)
    send(message_to, tiers[0], at=now)
    throttle.set_ceiling(tiers[0], week=3, month=6, by=owner, now=now)
    send(message_to, tiers[0], at=now)
    assert AuditEvent.objects.get().subject == "Patrons · Hobbyist: 2/6 → 3/6"


def test_a_creators_lower_choice_holds_stays_when_the_ceiling_rises_and_yields_when_it_falls(
    message_to: Callable[..., Message], tiers: list[Group], owner: User, now: datetime
) -> None:
    throttle.set_chosen(tiers[0], week=1, month=4, by=owner, now=now)
    send(message_to, tiers[0], at=now)
    with pytest.raises(CapReached, match="at most 1 message in any 7 days"):
        send(message_to, tiers[0], at=now)
    throttle.set_ceiling(tiers[0], week=5, month=9, by=owner, now=now)
    assert throttle.meter(tiers[0], now).week_cap == 1
    throttle.set_ceiling(tiers[0], week=1, month=2, by=owner, now=now)
    assert throttle.meter(tiers[0], now).month_cap == 2


@pytest.mark.parametrize(("week", "month"), [(3, 6), (2, 7), (0, 6), (2, 0)])
def test_a_creator_cannot_choose_more_than_the_ceiling_or_nothing(
    hobbyist: Group, owner: User, now: datetime, week: int, month: int
) -> None:
    with pytest.raises(AboveCeiling, match="from 1 to 2 messages in 7 days and from 1 to 6"):
        throttle.set_chosen(hobbyist, week=week, month=month, by=owner, now=now)
    assert not Cadence.objects.exists()


def test_a_week_that_its_month_would_never_allow_is_refused_in_words(
    hobbyist: Group, owner: User, now: datetime
) -> None:
    with pytest.raises(throttle.CeilingRefused, match="7 in 7 days cannot be more than 6 in 30 days"):
        throttle.set_ceiling(hobbyist, week=7, month=6, by=owner, now=now)
    assert not Cadence.objects.exists()


# --- a refusal says why a group counts --------------------------------------------------------------------


def test_a_sub_group_that_was_not_named_counts_as_what_its_main_group_gets_reaches_it(
    message_to: Callable[..., Message], tiers: list[Group], patrons: Group, now: datetime
) -> None:
    send(message_to, tiers[0], at=now)
    send(message_to, tiers[0], at=now)
    with pytest.raises(CapReached, match="as what you share with “Patrons” reaches “Hobbyist”, too"):
        send(message_to, patrons, at=now)
    elsewhere = GroupFactory.create(creator=patrons.creator, name="Backers")
    with pytest.raises(CapReached, match="as what you share with “Patrons” reaches “Hobbyist”, too"):
        send(message_to, elsewhere, patrons, at=now)
    with pytest.raises(CapReached) as refused:
        send(message_to, tiers[0], at=now)
    assert "It counts" not in refused.value.reason


def test_a_main_group_that_was_not_named_counts_as_its_own_members_receive_everything(
    message_to: Callable[..., Message], tiers: list[Group], patrons: Group, now: datetime
) -> None:
    MembershipFactory.create(group=patrons)
    send(message_to, tiers[0], at=now)
    send(message_to, tiers[0], at=now)
    with pytest.raises(CapReached, match="in “Patrons” itself receives what you share with “Collector”, too"):
        send(message_to, tiers[1], at=now)


# --- for every sequence -----------------------------------------------------------------------------------

START = datetime(2026, 3, 1, tzinfo=UTC)
# Whole days make exact edges likely, microseconds what lies beside them.
moments = st.builds(
    lambda days, micros: START + timedelta(days=days, microseconds=micros),
    st.integers(0, 80),
    st.sampled_from([-1, 0, 0, 0, 1, 123_456]),
)
caps = st.builds(_Caps, st.integers(1, 4), st.integers(1, 7))


def overfull(times: list[datetime], cap: _Caps) -> bool:
    """By counting: is there a rolling window, opening at one of the slots, that holds more than its number?"""
    return any(
        sum(first <= time < first + window for time in times) > number
        for number, window in ((cap.week, throttle.WEEK), (cap.month, throttle.MONTH))
        for first in times
    )


@given(asked=st.lists(moments, max_size=25), cap=caps)
def test_no_sequence_of_charges_overfills_a_window_and_the_next_time_is_the_first_legal_one(
    asked: list[datetime], cap: _Caps
) -> None:
    times: list[datetime] = []
    for at in asked:
        next_at = _next_legal(at, _closed_spans(cap, times))
        assert not overfull([*times, next_at], cap)
        if next_at != at:
            assert overfull([*times, at], cap)
            assert overfull([*times, next_at - INSTANT], cap)
        times = sorted([*times, next_at])


class TestAnySequenceOfMessages(TestCase):
    @settings(max_examples=25, deadline=None)
    @given(asked=st.lists(st.tuples(moments, st.sampled_from(["main", "a", "b", "a+b"])), max_size=12))
    def test_no_group_of_a_tree_is_ever_written_to_more_often_than_its_cap(
        self, asked: list[tuple[datetime, str]]
    ) -> None:
        creator = CreatorFactory.create()
        main = GroupFactory.create(creator=creator)
        a, b = (GroupFactory.create(creator=creator, parent=main) for _ in range(2))
        for group in (main, a, b):
            MembershipFactory.create(group=group)
        for at, whom in asked:
            groups = {"main": [main], "a": [a], "b": [b], "a+b": [a, b]}[whom]
            message = Message.objects.create(release=ReleaseFactory.create(creator=creator))
            found = throttle.verdict(groups, at=at, now=START - DAY)
            if not found.allowed:
                with pytest.raises(CapReached):
                    throttle.charge(message, groups, at=at, now=START - DAY)
            throttle.charge(message, groups, at=found.next_at, now=START - DAY)
        for group in (main, a, b):
            times = list(SendSlot.objects.filter(group=group).values_list("at", flat=True))
            assert not overfull(times, _Caps(2, 6))

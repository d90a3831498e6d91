"""Who asked for one mail a week, or has had as many as anybody gets, is told of everything in one mail (M5)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.conf import LazySettings
from django.core import mail

from accounts.models import Suppression, User
from accounts.services import suppress
from distribution.services import recall_release, revoke_grant
from groups.models import Contact, Creator, Group
from messaging import services
from messaging.models import Delivery, Message, Preference, RecentMail, SendSlot
from messaging.services import plan
from messaging.services.digests import last_moment
from messaging.tasks import sweep
from tests.factories import BundleFactory, CreatorFactory, ReleaseFactory
from tests.messaging.test_races import all_at_once

pytestmark = pytest.mark.django_db

# A Saturday is `now`; in Berlin the next Sunday's 10:00 is 9:00 UTC.
SUNDAY = datetime(2026, 11, 22, 9, tzinfo=UTC)
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)


@pytest.fixture
def sent(
    hobbyist: Group, confirm: Callable[..., Message], start: Callable[..., Message], work: Callable[..., None]
) -> Callable[..., Message]:
    def send(title: str, *, at: datetime) -> Message:
        """A release with its message, given and sent at once."""
        bundle = BundleFactory.create(creator=hobbyist.creator, title=f"{title} bundle")
        release = ReleaseFactory.create(
            creator=hobbyist.creator, title=title, bundles=[bundle], groups=[hobbyist]
        )
        message = services.start_message(release)
        message.subject = f"About {title}"
        message.save()
        start(confirm(message, due_at=at, at=at), at=at)
        work(at=at)
        message.refresh_from_db()
        return message

    return send


@pytest.fixture
def weekly(people: list[Contact], now: datetime) -> list[Contact]:
    """Two of the five ask for one mail a week."""
    for contact in people[:2]:
        services.set_preference(contact, Preference.Choice.WEEKLY, now=now)
    return people[:2]


@pytest.fixture
def told(start: Callable[..., Message], work: Callable[..., None]) -> Callable[..., list[Message]]:
    def digests(*, at: datetime) -> list[Message]:
        """The digests that are planned at `at`, sent."""
        made = [Message.objects.get(pk=pk) for pk in services.plan_digests(at)]
        for message in made:
            start(message, at=at)
        work(at=at)
        for message in made:
            message.refresh_from_db()
        return made

    return digests


def states(**of: object) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for pair in Delivery.objects.filter(**of).values_list("state", "reason"):
        found[pair] = found.get(pair, 0) + 1
    return found


def to(contact: Contact) -> list[str]:
    return [message.subject for message in mail.outbox if message.to == [contact.address_key]]


def test_who_asked_for_one_mail_a_week_gets_all_of_it_in_one(
    weekly: list[Contact],
    people: list[Contact],
    sent: Callable[..., Message],
    told: Callable[..., list[Message]],
    now: datetime,
) -> None:
    older, newer = sent("Older", at=now), sent("Newer", at=now + HOUR)
    assert states(message=older) == {("accepted", ""): 3, ("held", "weekly"): 2}
    assert (older.held, newer.held) == (2, 2)
    slots = SendSlot.objects.count()
    assert told(at=SUNDAY - HOUR) == []
    [digest] = told(at=SUNDAY)
    assert (digest.kind, digest.release, digest.due_at) == ("digest", newer.release, SUNDAY)
    assert digest.state == Message.State.DONE
    assert SendSlot.objects.count() == slots
    for contact in weekly:
        assert to(contact) == ["New for you from Ana's Forge"]
    assert all(len(to(contact)) == 2 for contact in people[2:])
    [letter] = [message for message in mail.outbox if message.to == [weekly[0].address_key]]
    for part in (str(letter.body), str(letter.alternatives[0][0])):
        assert part.index("Newer bundle") < part.index("Older bundle")
        assert part.count("/redeem/") == 2
        assert "Redeem here" in part
        assert "Patrons · Hobbyist" in part
    assert "list-unsubscribe" in {name.lower() for name in letter.extra_headers}
    older.refresh_from_db()
    assert older.held == 0
    assert states(message=older) == {("accepted", ""): 3, ("skipped", "merged"): 2}
    # Next week nobody waits for anything.
    assert told(at=SUNDAY + WEEK) == []


def test_a_digest_charges_the_persons_cap_and_each_persons_newest_grant_is_its_own(
    weekly: list[Contact], sent: Callable[..., Message], told: Callable[..., list[Message]], now: datetime
) -> None:
    newest = sent("Newest", at=now)
    [digest] = told(at=SUNDAY)
    rows = Delivery.objects.filter(message=digest)
    assert {row.charged_at for row in rows} == {SUNDAY}
    assert {row.grant.release for row in rows.select_related("grant__release")} == {newest.release}
    assert RecentMail.objects.filter(
        address_key=weekly[0].address_key, sender=newest.release.creator_id
    ).exists()


def test_two_beats_and_a_beat_after_it_make_one_digest(
    weekly: list[Contact], sent: Callable[..., Message], now: datetime
) -> None:
    sent("Older", at=now)
    assert len(services.plan_digests(SUNDAY)) == 1
    assert services.plan_digests(SUNDAY) == []
    assert services.plan_digests(SUNDAY + timedelta(days=6)) == []
    assert Message.objects.filter(kind="digest").count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_beats_at_the_same_instant_make_one_digest(
    weekly: list[Contact], sent: Callable[..., Message], now: datetime
) -> None:
    sent("Older", at=now)
    results = all_at_once([partial(services.plan_digests, SUNDAY)] * 6)
    assert sorted(len(made) for made in results) == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("zone", "now", "moment"),
    [
        ("Europe/Berlin", "2026-11-22T08:59", "2026-11-15T09:00"),
        ("Europe/Berlin", "2026-11-22T09:00", "2026-11-22T09:00"),
        ("Europe/Berlin", "2026-11-24T12:00", "2026-11-22T09:00"),
        ("Europe/Berlin", "2026-11-28T23:59", "2026-11-22T09:00"),
        # A Saturday in Greenwich, Sunday morning there; and the other way round.
        ("Pacific/Kiritimati", "2026-11-21T20:00", "2026-11-21T20:00"),
        ("Pacific/Pago_Pago", "2026-11-22T20:59", "2026-11-15T21:00"),
        # The clocks went back in the night.
        ("Europe/Berlin", "2026-10-25T08:59", "2026-10-18T08:00"),
        ("Europe/Berlin", "2026-10-25T09:00", "2026-10-25T09:00"),
    ],
)
def test_sunday_at_ten_is_by_the_creators_clocks(zone: str, now: str, moment: str) -> None:
    creator = CreatorFactory.build(time_zone=zone)
    found = last_moment(creator, datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(moment).replace(tzinfo=UTC)


def test_what_was_held_after_that_moment_waits_for_the_next(
    weekly: list[Contact], sent: Callable[..., Message], told: Callable[..., list[Message]]
) -> None:
    sent("Later", at=SUNDAY + HOUR)
    assert told(at=SUNDAY + 2 * HOUR) == []
    assert len(told(at=SUNDAY + WEEK)) == 1


def test_who_has_had_as_many_as_anybody_gets_is_told_in_the_digest_once_there_is_room(
    people: list[Contact],
    sent: Callable[..., Message],
    told: Callable[..., list[Message]],
    now: datetime,
    settings: LazySettings,
) -> None:
    settings.RECIPIENT_CAP_CREATOR = 1
    sent("First", at=now)
    second = sent("Second", at=now + HOUR)
    assert states(message=second) == {("held", "cap"): 5}
    assert second.held == 5
    # Sunday is too early: nobody gets a second mail within the week.
    [digest] = told(at=SUNDAY)
    assert states(message=digest) == {("skipped", "cap"): 5}
    assert states(message=second) == {("held", "cap"): 5}
    second.refresh_from_db()
    assert second.held == 5
    [digest] = told(at=SUNDAY + WEEK)
    assert states(message=digest) == {("accepted", ""): 5}
    assert states(message=second) == {("skipped", "merged"): 5}


def test_a_paused_creators_digest_waits_until_they_may_send(
    weekly: list[Contact],
    creator: Creator,
    sent: Callable[..., Message],
    told: Callable[..., list[Message]],
    now: datetime,
) -> None:
    sent("Older", at=now)
    Creator.objects.update(paused_at=now)
    assert told(at=SUNDAY) == []
    Creator.objects.update(paused_at=None)
    [digest] = told(at=SUNDAY + HOUR)
    assert digest.due_at == SUNDAY
    assert states(message=digest) == {("accepted", ""): 2}


def test_recalled_and_revoked_are_not_told(
    weekly: list[Contact],
    sent: Callable[..., Message],
    told: Callable[..., list[Message]],
    owner: User,
    now: datetime,
) -> None:
    older, newer = sent("Older", at=now), sent("Newer", at=now + HOUR)
    recall_release(newer.release, because="Wrong file", by=owner, now=now)
    revoke_grant(weekly[0].grants.get(release=older.release), by=owner, now=now)
    [digest] = told(at=SUNDAY)
    assert digest.release == older.release
    assert states(message=digest) == {("accepted", ""): 1}
    assert to(weekly[0]) == []
    assert "Newer" not in str(mail.outbox[-1].body)
    assert states(state="cancelled") == {("cancelled", "revoked"): 3}
    assert not Message.objects.filter(held__gt=0).exists()


def test_who_must_not_be_written_to_or_wants_no_mail_by_now_waits_for_nothing(
    weekly: list[Contact],
    sent: Callable[..., Message],
    told: Callable[..., list[Message]],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("messaging.services.digests.BATCH", 1)
    older = sent("Older", at=now)
    suppress(weekly[0].address_key, Suppression.Reason.BOUNCE, now=now)
    # As if the choice had been made while the message was planned.
    Preference.objects.filter(contact=weekly[1]).update(choice="nothing")
    assert told(at=SUNDAY) == []
    assert states(message=older) == {
        ("accepted", ""): 3,
        ("suppressed", "suppressed"): 1,
        ("skipped", "no_mail"): 1,
    }
    older.refresh_from_db()
    assert older.held == 0
    assert [chunk.tally for chunk in older.chunks.all()] == [{"accepted": 3, "suppressed": 1, "skipped": 1}]


def test_who_must_not_be_written_to_between_planning_and_sending_gets_no_digest(
    weekly: list[Contact],
    sent: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    older = sent("Older", at=now)
    [pk] = services.plan_digests(SUNDAY)
    start(Message.objects.get(pk=pk), at=SUNDAY)
    suppress(weekly[0].address_key, Suppression.Reason.BOUNCE, now=now)
    services.set_preference(weekly[1], Preference.Choice.NOTHING, now=now)
    work(at=SUNDAY)
    assert to(weekly[0]) == to(weekly[1]) == []
    assert states(message=pk) == {("suppressed", "suppressed"): 1, ("skipped", "no_mail"): 1}
    assert states(message=older, contact=weekly[0]) == {("held", "weekly"): 1}
    assert states(message=older, contact=weekly[1]) == {("skipped", "no_mail"): 1}


def test_a_digest_about_nothing_is_not_sent(
    weekly: list[Contact],
    sent: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    older = sent("Older", at=now)
    [pk] = services.plan_digests(SUNDAY)
    start(Message.objects.get(pk=pk), at=SUNDAY)
    # Another mail was faster.
    Delivery.objects.filter(message=older, state="held").update(state="skipped", reason="merged")
    work(at=SUNDAY)
    assert states(message=pk) == {("skipped", "merged"): 2}
    assert not Delivery.objects.filter(message=pk, charged_at__isnull=False).exists()
    assert to(weekly[0]) == []


def test_held_counts_that_were_left_behind_are_put_right_and_make_no_digest(
    weekly: list[Contact], sent: Callable[..., Message], told: Callable[..., list[Message]], now: datetime
) -> None:
    older = sent("Older", at=now)
    # As after a worker that was killed between absorbing them and counting.
    Delivery.objects.filter(message=older, state="held").update(state="skipped", reason="merged")
    assert told(at=SUNDAY) == []
    older.refresh_from_db()
    assert older.held == 0


def test_what_a_cancelled_or_paused_message_holds_is_not_told(
    weekly: list[Contact],
    sent: Callable[..., Message],
    told: Callable[..., list[Message]],
    now: datetime,
) -> None:
    older, newer = sent("Older", at=now), sent("Newer", at=now)
    Message.objects.filter(pk=newer.pk).update(state="paused", done_at=None)
    [digest] = told(at=SUNDAY)
    assert digest.release == older.release
    assert states(message=newer) == {("accepted", ""): 3, ("held", "weekly"): 2}


def test_a_digest_is_planned_in_pages_like_any_message(
    people: list[Contact],
    sent: Callable[..., Message],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 2)
    for contact in people:
        services.set_preference(contact, Preference.Choice.WEEKLY, now=now)
    older, newer = sent("Older", at=now), sent("Newer", at=now)
    assert older.state == newer.state == Message.State.DONE
    [pk] = services.plan_digests(SUNDAY)
    assert services.plan_deliveries(pk, now=SUNDAY, page=2)
    digest = Message.objects.get(pk=pk)
    assert digest.planned == 5
    assert sum(sum(chunk.tally.values()) for chunk in digest.chunks.all()) == 5
    assert not services.plan_deliveries(pk, now=SUNDAY, page=2)


def test_the_sweep_plans_them(weekly: list[Contact], sent: Callable[..., Message]) -> None:
    then = datetime(2026, 1, 3, 12, tzinfo=UTC)
    for contact in weekly:
        contact.memberships.update(started_at=then - WEEK, recorded_at=then - WEEK)
    sent("Older", at=then)
    sweep()
    assert Message.objects.filter(kind="digest").count() == 1


def test_choosing_while_a_message_is_on_its_way_moves_what_is_queued(
    people: list[Contact],
    draft: Message,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    message = start(confirm(draft))
    mine = Delivery.objects.filter(contact=people[0])

    def choose(choice: Preference.Choice) -> tuple[str, str, int, int]:
        services.set_preference(people[0], choice, now=now)
        message.refresh_from_db()
        [tally] = message.chunks.values_list("tally", flat=True)
        return *mine.values_list("state", "reason").get(), message.held, tally.get("held", 0)

    choice = Preference.Choice
    assert choose(choice.WEEKLY) == ("held", "weekly", 1, 1)
    # Back to each: the next one; what was moved to the digest stays there.
    assert choose(choice.EACH) == ("held", "weekly", 1, 1)
    assert choose(choice.NOTHING) == ("skipped", "no_mail", 0, 0)
    assert choose(choice.WEEKLY) == ("skipped", "no_mail", 0, 0)
    assert Delivery.objects.filter(state="planned").count() == 4


def test_choosing_one_mail_a_week_does_not_stop_the_one_of_this_week(
    weekly: list[Contact],
    sent: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    sent("Older", at=now)
    [pk] = services.plan_digests(SUNDAY)
    start(Message.objects.get(pk=pk), at=SUNDAY)
    services.set_preference(weekly[0], Preference.Choice.WEEKLY, now=SUNDAY)
    work(at=SUNDAY)
    assert to(weekly[0]) == ["New for you from Ana's Forge"]

"""What is planned for a person follows every change of that person: another address, or belonging no more."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from accounts.models import Suppression, User
from distribution.models import Grant
from groups.models import Contact, Group, Membership
from groups.services import change_address, end_membership
from messaging import services
from messaging.mail import Mailing
from messaging.models import Chunk, Delivery, Message, Preference, RecentMail
from messaging.providers import Answer, Kind
from messaging.services.chain import link
from messaging.services.eligible import may_go, told_by
from rows.clock import db_now
from tests.factories import MembershipFactory
from tests.messaging.test_chunks import Script

pytestmark = pytest.mark.django_db

WEEK = timedelta(days=7)
Change = Callable[[Contact], None]


@pytest.fixture
def message(
    draft: Message, people: list[Contact], confirm: Callable[..., Message], start: Callable[..., Message]
) -> Message:
    return start(confirm(draft))


@pytest.fixture
def move(owner: User, now: datetime) -> Callable[[Contact, str], None]:
    def moved(contact: Contact, address: str) -> None:
        assert change_address(Contact.objects.get(pk=contact.pk), address, by=owner, now=now)

    return moved


@pytest.fixture
def remove(now: datetime) -> Callable[[Contact], None]:
    def removed(contact: Contact) -> None:
        assert end_membership(Membership.objects.get(contact=contact), now=now)

    return removed


def of(contact: Contact) -> Delivery:
    return Delivery.objects.select_related("contact").get(contact=contact, message__kind="announcement")


def charged() -> set[str]:
    """The addresses that a mail of the last days is charged to."""
    return set(RecentMail.objects.exclude(times="").values_list("address_key", flat=True))


def send(message: Message, chunk: Chunk | None, way: Script, now: datetime) -> None:
    assert chunk is not None
    services.send_chunk(chunk, Mailing(message), way, clock=lambda: now, stop=lambda: False)


# --- another address ------------------------------------------------------------------------------------


def test_what_is_planned_goes_to_the_address_of_now(
    message: Message, people: list[Contact], work: Callable[..., None], move: Callable[..., None]
) -> None:
    move(people[1], "new@example.net")
    assert of(people[1]).written_to == "new@example.net"
    way = Script()
    work(way)
    assert way.offered == ["p0@example.net", "new@example.net", *(f"p{n}@example.net" for n in (2, 3, 4))]
    assert (of(people[1]).state, of(people[1]).written_to) == ("accepted", "new@example.net")
    assert charged() == set(way.offered)


def test_who_moves_while_the_chunk_is_open_waits_and_is_written_to_there(
    message: Message,
    people: list[Contact],
    work: Callable[..., None],
    move: Callable[..., None],
    now: datetime,
) -> None:
    chunk = services.open_chunk(owner="x", now=now)
    assert "p1@example.net" in charged()
    move(people[1], "new@example.net")
    way = Script(wave=2)
    send(message, chunk, way, now)
    assert sorted(way.offered) == [f"p{n}@example.net" for n in (0, 2, 3, 4)]
    assert (of(people[1]).state, of(people[1]).attempts) == ("planned", 0)
    work(way)
    assert way.offered[4:] == ["new@example.net"]
    message.refresh_from_db()
    assert message.state == Message.State.DONE
    assert charged() == set(way.offered)


def test_who_moves_between_two_waves_is_not_written_to_at_the_old_address_any_more(
    message: Message, people: list[Contact], work: Callable[..., None], move: Callable[..., None]
) -> None:
    moves = iter([(people[0], "late@example.net"), (people[1], "new@example.net")])
    way = Script(hook=lambda: [move(*one) for one in moves] and None)
    work(way)
    assert way.offered == [*(f"p{n}@example.net" for n in (0, 2, 3, 4)), "new@example.net"]
    # Nothing that was accepted at the old address is claimed for the new one.
    late = of(people[0])
    assert (late.state, late.written_to, late.contact.address_key) == (
        "accepted",
        "p0@example.net",
        "late@example.net",
    )


def test_what_is_tried_again_later_is_tried_at_the_new_address(
    message: Message,
    people: list[Contact],
    work: Callable[..., None],
    move: Callable[..., None],
    now: datetime,
) -> None:
    work(Script([Answer(Kind.LATER, "4.2.0 greylisted", 451)]))
    move(people[0], "new@example.net")
    way = Script()
    work(way, at=now + timedelta(minutes=2))
    assert way.offered == ["new@example.net"]


def test_what_was_in_doubt_goes_to_the_new_address_if_it_is_sent_once_more(
    message: Message,
    people: list[Contact],
    work: Callable[..., None],
    move: Callable[..., None],
    owner: User,
    now: datetime,
) -> None:
    work(Script([Answer(Kind.IN_DOUBT, "timed out")]))
    move(people[0], "new@example.net")
    assert of(people[0]).written_to == "p0@example.net"
    doubtful = Delivery.objects.filter(state="unknown")
    assert services.resend(doubtful, message=message, by=owner, now=now) == 1
    way = Script()
    work(way)
    assert way.offered == ["new@example.net"]


def test_the_digest_goes_to_the_address_of_then(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    move: Callable[..., None],
    now: datetime,
) -> None:
    Preference.objects.create(creator=people[1].creator, contact=people[1], choice="weekly", changed_at=now)
    start(confirm(draft))
    work(Script())
    assert of(people[1]).state == "held"
    move(people[1], "new@example.net")
    sunday = now + timedelta(days=2)
    [digest] = services.plan_digests(sunday)
    move(people[1], "newer@example.net")
    services.plan_deliveries(digest, now=sunday)
    services.begin_sending(digest, now=sunday)
    move(people[1], "newest@example.net")
    way = Script()
    work(way, at=sunday)
    assert way.offered == ["newest@example.net"]


def test_two_who_swap_their_addresses_each_get_their_own_mail(
    message: Message, people: list[Contact], work: Callable[..., None], move: Callable[..., None]
) -> None:
    move(people[0], "aside@example.net")
    move(people[3], "p0@example.net")
    move(people[0], "p3@example.net")
    way = Script()
    work(way)
    assert sorted(way.offered) == [f"p{n}@example.net" for n in range(5)]
    assert (of(people[0]).address_key, of(people[3]).address_key) == ("p3@example.net", "p0@example.net")


def test_an_address_that_is_passed_on_is_written_to_once_across_chunks(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    move: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("messaging.services.plan.CHUNK", 1)
    message = start(confirm(draft))
    # The holder's own chunk comes later than the one of who has the address now.
    move(people[4], "p5@example.net")
    move(people[0], "p4@example.net")
    way = Script()
    work(way)
    assert sorted(way.offered) == sorted(f"p{n}@example.net" for n in (1, 2, 3, 4, 5))
    assert (of(people[0]).written_to, of(people[4]).written_to) == ("p4@example.net", "p5@example.net")
    message.refresh_from_db()
    assert message.state == Message.State.DONE


def test_an_address_that_was_written_to_as_somebody_elses_is_not_written_to_twice(
    message: Message, people: list[Contact], work: Callable[..., None], move: Callable[..., None]
) -> None:
    def pass_on() -> None:
        move(people[0], "gone@example.net")
        move(people[1], "p0@example.net")
        way.hook = None

    way = Script(hook=pass_on)
    work(way)
    assert sorted(way.offered) == [f"p{n}@example.net" for n in (0, 2, 3, 4)]
    second = of(people[1])
    assert (second.state, second.reason, second.written_to) == ("skipped", "same_address", "p0@example.net")
    message.refresh_from_db()
    assert message.state == Message.State.DONE


def test_an_address_that_was_kept_for_somebody_who_is_not_written_to_is_free(
    message: Message,
    people: list[Contact],
    work: Callable[..., None],
    move: Callable[..., None],
    owner: User,
    now: datetime,
) -> None:
    services.set_preference(people[4], Preference.Choice.NOTHING, now=now)
    move(people[4], "p9@example.net")
    move(people[0], "p4@example.net")
    way = Script()
    work(way)
    assert way.offered == ["p4@example.net", *(f"p{n}@example.net" for n in (1, 2, 3))]
    assert (of(people[4]).state, of(people[4]).written_to) == ("skipped", "p9@example.net")


def test_the_new_address_has_rules_of_its_own(
    message: Message,
    people: list[Contact],
    work: Callable[..., None],
    now: datetime,
) -> None:
    Suppression.objects.create(address_key="bad@example.net", reason="bounce", created_at=now)
    full = "".join(f" {int((now - timedelta(hours=n)).timestamp() * 1000):013d}" for n in range(1, 4))
    RecentMail.objects.create(sender=people[0].creator_id, address_key="full@example.net", times=full)
    # As an import writes them.
    Contact.objects.filter(pk=people[0].pk).update(address_key="full@example.net")
    Contact.objects.filter(pk=people[1].pk).update(address_key="bad@example.net")
    way = Script()
    work(way)
    assert way.offered == [f"p{n}@example.net" for n in (2, 3, 4)]
    assert (of(people[0]).state, of(people[0]).reason) == ("held", "cap")
    assert of(people[1]).state == "suppressed"


def test_one_whose_old_address_was_silenced_is_sent_it_by_hand_at_the_new(
    message: Message,
    people: list[Contact],
    work: Callable[..., None],
    move: Callable[..., None],
    owner: User,
    now: datetime,
) -> None:
    Suppression.objects.create(address_key="p0@example.net", reason="bounce", created_at=now)
    work(Script())
    assert of(people[0]).state == "suppressed"
    silenced = Delivery.objects.filter(state="suppressed")
    assert services.resend(silenced, message=message, by=owner, now=now) == 0
    move(people[0], "new@example.net")
    assert services.resend(silenced, message=message, by=owner, now=now) == 1
    way = Script()
    work(way)
    assert way.offered == ["new@example.net"]


# --- belonging no more ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["planned", "open", "wave", "later", "doubt"])
def test_who_was_removed_is_not_written_to_from_then_on(
    message: Message,
    people: list[Contact],
    work: Callable[..., None],
    remove: Callable[..., None],
    owner: User,
    now: datetime,
    stage: str,
) -> None:
    way, later = Script(), now + timedelta(hours=1)
    if stage == "planned":
        remove(people[0])
    elif stage == "open":
        chunk = services.open_chunk(owner="x", now=now)
        remove(people[0])
        send(message, chunk, way, now)
    elif stage == "wave":
        leaving = iter([people[3]])
        way.hook = lambda: [remove(one) for one in leaving] and None
    else:
        first = Answer(Kind.LATER, code=451) if stage == "later" else Answer(Kind.IN_DOUBT)
        work(Script([first]))
        remove(people[0])
        services.resend(Delivery.objects.filter(state="unknown"), message=message, by=owner, now=later)
    work(way, at=later if stage in ("later", "doubt") else now)
    out = of(people[3 if stage == "wave" else 0])
    assert (out.state, out.reason) == ("cancelled", "left")
    assert out.address_key not in way.offered
    message.refresh_from_db()
    assert message.state == Message.State.DONE


def test_who_left_everything_is_told_in_no_digest_and_who_went_elsewhere_is(
    draft: Message,
    people: list[Contact],
    collector: Group,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    remove: Callable[..., None],
    now: datetime,
) -> None:
    for contact in people[:3]:
        Preference.objects.create(creator=contact.creator, contact=contact, choice="weekly", changed_at=now)
    start(confirm(draft))
    work(Script())
    remove(people[0])
    remove(people[1])
    MembershipFactory.create(group=collector, contact=people[1], started_at=now)
    sunday = now + timedelta(days=2)
    [digest] = services.plan_digests(sunday)
    assert (of(people[0]).state, of(people[0]).reason) == ("cancelled", "left")
    services.plan_deliveries(digest, now=sunday)
    services.begin_sending(digest, now=sunday)
    chunk = services.open_chunk(owner="x", now=sunday)
    remove(people[2])
    way = Script()
    send(Message.objects.get(pk=digest), chunk, way, sunday)
    work(way, at=sunday)
    assert way.offered == ["p1@example.net"]
    assert Delivery.objects.get(message=digest, contact=people[2]).reason == "left"


# --- the two wordings of the rule -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    ["nothing", "moved", "left", "leaves soon", "stays", "revoked", "redeemed", "silenced", "no mail"],
)
@pytest.mark.parametrize("kind", ["announcement", "reminder"])
def test_the_chained_commit_and_the_rule_say_the_same(
    message: Message, people: list[Contact], now: datetime, change: str, kind: str
) -> None:
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    person, told = people[0], told_by(message)._replace(kind=kind)
    delivery = of(person)
    match change:
        case "moved":
            Contact.objects.filter(pk=person.pk).update(address_key="new@example.net")
        case "left":
            Membership.objects.filter(contact=person).update(ended_at=now)
        case "leaves soon":
            Membership.objects.filter(contact=person).update(ended_at=now + timedelta(seconds=1))
        case "stays":
            Membership.objects.filter(contact=person).update(ended_at=now + WEEK)
        case "revoked":
            Grant.objects.filter(contact=person).update(revoked_at=now)
        case "redeemed":
            Grant.objects.filter(contact=person).update(redeemed_at=now)
        case "silenced":
            Suppression.objects.create(address_key=delivery.address_key, reason="admin", created_at=now)
        case "no mail":
            Preference.objects.create(
                creator=person.creator, contact=person, choice="nothing", changed_at=now
            )
    going = Delivery.objects.filter(may_go(told, now), pk=delivery.pk).exists()
    offered = link(chunk, intend={delivery.pk: delivery.address_key}, told=told, seconds=60, now=now).offered
    assert bool(offered) == going
    assert going == (change in ("nothing", "stays") or (change == "redeemed" and kind == "announcement"))


def test_a_mail_that_was_written_to_another_address_than_the_rows_is_not_offered(
    message: Message, now: datetime
) -> None:
    chunk, told = services.open_chunk(owner="x", now=now), told_by(message)
    assert chunk is not None
    first = Delivery.objects.order_by("contact")[0]
    assert not link(chunk, intend={first.pk: "old@example.net"}, told=told, seconds=60, now=now).offered
    assert not link(chunk, intend={first.pk: first.address_key}, seconds=60, now=now).offered
    assert link(chunk, intend={first.pk: first.address_key}, told=told, seconds=60, now=now).offered


def test_following_twice_changes_nothing(
    message: Message, people: list[Contact], move: Callable[..., None], now: datetime
) -> None:
    move(people[0], "new@example.net")
    for _again in range(2):
        assert services.open_chunk(owner="x", now=now)
        rows = Delivery.objects.order_by("contact").values_list("address_key", "state", "charged_at")
        assert list(rows) == [
            (address, "planned", now)
            for address in ("new@example.net", *(f"p{n}@example.net" for n in (1, 2, 3, 4)))
        ]
        Chunk.objects.update(lease_until=db_now() - WEEK)
    assert charged() == {"new@example.net", *(f"p{n}@example.net" for n in (1, 2, 3, 4))}

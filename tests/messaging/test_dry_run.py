"""R3: the dry run is a partition of everyone, with each one's reason, and equal to what then happens."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from unittest import mock
from uuid import uuid4

import pytest
from allauth.account.models import EmailAddress
from django.conf import LazySettings
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import Suppression, User
from accounts.services import lift, suppress
from distribution.models import Grant, Release
from distribution.services import fan_out_grants, publish_release
from groups.models import Contact, Creator, Group
from library.services import add_holdings, end_holdings
from messaging import services
from messaging.mail import Mail
from messaging.models import Delivery, Message, Preference, RecentMail
from messaging.providers import Answer, Kind
from messaging.services.dry_run import everyone
from messaging.services.refused import NobodyToTell, NothingNew
from tests.factories import (
    LONG_AGO,
    BundleFactory,
    ContactFactory,
    CreatorFactory,
    GroupFactory,
    MembershipFactory,
    ReleaseFactory,
    UserFactory,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PARTS = ("mailed", "digest_cap", "digest_weekly", "suppressed", "no_mail", "holds_all")
# What each reason of the dry run comes to.
BECOMES = {
    "": ("accepted", ""),
    "cap": ("held", "cap"),
    "weekly": ("held", "weekly"),
    "suppressed": ("suppressed", "suppressed"),
    "no_mail": ("skipped", "no_mail"),
    "holds_all": ("skipped", "holds_all"),
}


class Script:
    """A way out that takes everything and writes it down."""

    name: ClassVar[str] = "script"
    shares_calls: ClassVar[bool] = False
    replays_for: ClassVar[timedelta | None] = None
    searches: ClassVar[bool] = False

    def __init__(self) -> None:
        self.taken: list[str] = []

    def open(self) -> int:
        return 3

    def offer(self, mails: Sequence[Mail]) -> list[Answer]:
        self.taken += [mail.recipient.address for mail in mails]
        return [Answer(Kind.ACCEPTED)] * len(mails)

    def close(self) -> None:
        pass


groups = st.sets(st.sampled_from(["main", "a", "b"]))
ages = st.lists(st.sampled_from([0.0, 1.0, 6.9, 7.0, 30.0]), max_size=4)
person = st.fixed_dictionaries(
    {
        "groups": groups,
        "left": st.booleans(),
        "choice": st.sampled_from([None, None, "each", "weekly", "nothing"]),
        "suppressed": st.sampled_from([None, None, None, "live", "lifted"]),
        "account": st.sampled_from([None, "attached", "verified", "unverified"]),
        "holds": st.sampled_from(["nothing", "one", "all", "all, taken back"]),
        "mails": ages,
        "others_mails": st.lists(st.sampled_from([0.0, 3.0, 9.0]), max_size=10),
    }
)


SIMPLE: dict[str, Any] = {
    "groups": {"a"},
    "left": False,
    "choice": None,
    "suppressed": None,
    "account": None,
    "holds": "nothing",
    "mails": [],
    "others_mails": [],
}
# Nobody has joined the account to the contact yet; giving does.
HOLDS_IT_UNKNOWN = {**SIMPLE, "account": "verified", "holds": "all"}


class TestTheDryRunIsWhatThenHappens(TestCase):
    @settings(max_examples=20, deadline=None)
    @given(people=st.lists(person, max_size=8), named=groups.filter(bool), bundles=st.integers(1, 2))
    @example(people=[HOLDS_IT_UNKNOWN, SIMPLE], named={"a"}, bundles=1)
    def test_for_every_audience_person_by_person(
        self, people: list[dict[str, Any]], named: set[str], bundles: int
    ) -> None:
        with tempfile.TemporaryDirectory() as folder, self.settings(GATE_DIR=folder):
            # To the gate the database that an example rolled back is one that was put back to an earlier day.
            self.compare(*self.build(people, named, bundles))

    def compare(self, message: Message, owner: User) -> None:
        found = services.outlook(message, now=NOW)
        foreseen: dict[int, str] = dict(everyone(message, now=NOW).values_list("pk", "reason"))
        assert {part: getattr(found, part) for part in PARTS} == self.sizes(foreseen)
        assert found.people == len(foreseen) == sum(getattr(found, part) for part in PARTS)
        assert self.by_worker(message) == {part: getattr(found, part) for part in PARTS}
        script = self.send(message, owner)
        assert set(Grant.objects.values_list("contact_id", flat=True)) == set(foreseen)
        if script is None:
            # Refused: nobody would have been told, now or in a digest.
            assert set(foreseen.values()) <= {"suppressed", "no_mail", "holds_all"}
            return
        became = {row.contact_id: (row.state, row.reason) for row in Delivery.objects.all()}
        assert became == {contact: BECOMES[reason] for contact, reason in foreseen.items()}
        mailed = Contact.objects.filter(pk__in=[pk for pk, reason in foreseen.items() if not reason])
        assert sorted(script.taken) == sorted(mailed.values_list("address_key", flat=True))

    def by_worker(self, message: Message) -> dict[str, int]:
        with mock.patch.multiple("messaging.services.counting", AT_ONCE=-1, PAGE=3):
            run = services.ask_dry_run(message, now=NOW)
            services.count_dry_run(message.pk, now=NOW)
        assert run is not None
        run.refresh_from_db()
        found = services.outlook(message, now=NOW, run=run)
        return {part: getattr(found, part) for part in PARTS}

    def sizes(self, foreseen: dict[int, str]) -> dict[str, int]:
        number = Counter(foreseen.values())
        return {
            "mailed": number[""],
            "digest_cap": number["cap"],
            "digest_weekly": number["weekly"],
            **{part: number[part] for part in ("suppressed", "no_mail", "holds_all")},
        }

    def send(self, message: Message, owner: User) -> Script | None:
        """Really confirmed, given, planned and sent; None if it was refused, and then given without a mail."""
        try:
            services.confirm_message(message, request_id=uuid4(), due_at=NOW, by=owner, now=NOW)
        except (NobodyToTell, NothingNew):
            publish_release(message.release, publish_at=NOW, by=owner, now=NOW)
            fan_out_grants(message.release_id, now=NOW)
            return None
        script = Script()
        fan_out_grants(message.release_id, now=NOW)
        services.plan_deliveries(message.pk, now=NOW)
        services.begin_sending(message.pk, now=NOW)
        services.send_waiting(owner="here:1", provider=script, clock=lambda: NOW, stop=lambda: False)
        return script

    def build(self, people: list[dict[str, Any]], named: set[str], bundles: int) -> tuple[Message, User]:
        owner = UserFactory.create()
        creator = CreatorFactory.create(owner=owner)
        main = GroupFactory.create(creator=creator)
        of_name = {"main": main} | {
            name: GroupFactory.create(creator=creator, parent=main) for name in ("a", "b")
        }
        given = [BundleFactory.create(creator=creator) for _each in range(bundles)]
        release = ReleaseFactory.create(
            creator=creator, bundles=given, groups=[of_name[name] for name in sorted(named)]
        )
        for known in people:
            self.add(creator, release, of_name, known)
        message = services.start_message(release)
        message.subject, message.body = "The dragon is here", "Hi."
        message.save()
        return message, owner

    def add(
        self, creator: Creator, release: Release, of_name: dict[str, Group], known: dict[str, Any]
    ) -> None:
        contact = ContactFactory.create(creator=creator)
        for name in known["groups"]:
            ended_at = NOW - DAY if known["left"] else None
            MembershipFactory.create(group=of_name[name], contact=contact, ended_at=ended_at)
        if known["choice"]:
            services.set_preference(contact, Preference.Choice(known["choice"]), now=LONG_AGO)
        if known["suppressed"]:
            suppress(contact.address_key, Suppression.Reason.BOUNCE, now=LONG_AGO)
        if known["suppressed"] == "lifted":
            lift(contact.address_key, now=LONG_AGO)
        self.know(contact, release, known)
        self.write_to(contact, known["mails"], known["others_mails"])

    def know(self, contact: Contact, release: Release, known: dict[str, Any]) -> None:
        """The contact's account, and what it holds."""
        if not known["account"]:
            return
        user = UserFactory.create(email=contact.address_key)
        EmailAddress.objects.filter(user=user).update(verified=known["account"] != "unverified")
        if known["account"] == "attached":
            Contact.objects.filter(pk=contact.pk).update(account=user)
        versions = [item.bundle.versions.get() for item in release.items.all()]
        users = User.objects.filter(pk=user.pk).values_list("pk")
        if known["holds"] != "nothing":
            held = versions[:1] if known["holds"] == "one" else versions
            key = f"gift:{contact.pk}"
            add_holdings(
                users, versions=held, origin_key=key, title="A gift", group_name="", given_at=LONG_AGO
            )
            if known["holds"] == "all, taken back":
                end_holdings(key, reason="a mistake", now=LONG_AGO)

    def write_to(self, contact: Contact, own: list[float], others: list[float]) -> None:
        """When this creator wrote to the contact's address, and when others did, in days before now."""
        for sender, cap, days in ((contact.creator_id, 3, sorted(own)), (0, 10, sorted([*own, *others]))):
            times = [round((NOW - day * DAY).timestamp() * 1000) for day in days[:cap]]
            if times:
                RecentMail.objects.create(
                    sender=sender,
                    address_key=contact.address_key,
                    times="".join(f" {time:013}" for time in times),
                )


@pytest.mark.django_db
def test_whose_cap_has_room_again_by_the_time_it_goes_is_mailed(
    draft: Message, people: list[Contact], now: datetime
) -> None:
    times = f" {round(now.timestamp() * 1000)}" * 3
    RecentMail.objects.create(sender=draft.release.creator_id, address_key=people[0].address_key, times=times)
    for at, number in ((None, 1), (now - DAY, 1), (now + 6 * DAY, 1), (now + 7 * DAY, 0)):
        found = services.outlook(draft, now=now, at=at)
        assert (found.digest_cap, found.mailed) == (number, 5 - number)


@pytest.mark.django_db
def test_the_dry_run_of_a_reminder_is_of_those_who_have_not_redeemed(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    release = start(confirm(draft)).release
    work()
    Grant.objects.filter(contact=people[0]).update(redeemed_at=now)
    people[1].memberships.update(ended_at=now + DAY)
    services.set_preference(people[2], Preference.Choice.NOTHING, now=now)
    reminder = services.start_reminder(release, now=now)
    found = services.outlook(reminder, now=now + 3 * DAY)
    assert (found.people, found.mailed, found.no_mail, found.holds_all) == (3, 2, 1, 0)


@pytest.mark.django_db
def test_nothing_is_written_by_it(draft: Message, people: list[Contact], now: datetime) -> None:
    found = asdict(services.outlook(draft, now=now))
    assert found == asdict(services.outlook(draft, now=now))
    assert not RecentMail.objects.exists()
    assert not Delivery.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"MAILBOX": True}, "a mailbox of its own"),
        (
            {"EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend"},
            "Mail that comes back later is not seen here",
        ),
        ({}, ""),
    ],
)
def test_it_says_what_the_mail_system_cannot(
    draft: Message, now: datetime, settings: LazySettings, changed: dict[str, Any], says: str
) -> None:
    for name, value in changed.items():
        setattr(settings, name, value)
    warnings = services.outlook(draft, now=now).warnings
    assert [says in warning for warning in warnings] == ([True] if says else [])

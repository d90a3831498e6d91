from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from groups.models import Contact, Creator
from library import services
from library.models import Bundle, BundleVersion, Holding, LibraryEntry
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def versions(creator: Creator) -> list[BundleVersion]:
    bundles = factories.BundleFactory.create_batch(2, creator=creator)
    return [bundle.versions.get() for bundle in bundles]


def people(*users: User) -> QuerySet[Any, Any]:
    return User.objects.filter(pk__in=[user.pk for user in users]).values_list("pk", flat=True)


def give(
    users: QuerySet[Any, Any], versions: list[BundleVersion], now: datetime, origin_key: str = "release:1"
) -> int:
    return services.add_holdings(
        users, versions=versions, origin_key=origin_key, title="March", group_name="Patrons", given_at=now
    )


def test_everybody_has_every_version_in_the_library(
    member: User, stranger: User, versions: list[BundleVersion], now: datetime
) -> None:
    assert give(people(member, stranger), versions, now) == 4
    assert LibraryEntry.objects.filter(user=member).count() == 2
    holding = Holding.objects.get(entry__user=member, version=versions[0])
    assert (holding.origin_key, holding.title, holding.group_name) == ("release:1", "March", "Patrons")
    assert (holding.given_at, holding.ended_at, holding.reason) == (now, None, "")
    assert holding.entry.added_at == now


def test_twice_is_once(member: User, versions: list[BundleVersion], now: datetime) -> None:
    give(people(member), versions, now)
    assert give(people(member), versions, now + timedelta(days=1)) == 0
    assert (LibraryEntry.objects.count(), Holding.objects.count()) == (2, 2)
    assert set(Holding.objects.values_list("given_at", flat=True)) == {now}


def test_what_comes_in_two_ways_is_one_entry(
    member: User, versions: list[BundleVersion], now: datetime
) -> None:
    give(people(member), versions[:1], now)
    give(people(member), versions[:1], now, origin_key="release:2")
    entry = LibraryEntry.objects.get()
    assert entry.holdings.count() == 2


def test_accounts_may_come_from_contacts_and_one_account_twice(
    creator: Creator, member: User, versions: list[BundleVersion], now: datetime
) -> None:
    factories.ContactFactory.create_batch(2, creator=creator, account=member)
    factories.ContactFactory.create(creator=creator)
    accounts = Contact.objects.exclude(account=None).values_list("account_id", flat=True)
    assert give(accounts, versions, now) == 2


def test_the_number_of_statements_does_not_follow_the_number_of_people(
    versions: list[BundleVersion], now: datetime
) -> None:
    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            give(User.objects.values_list("pk", flat=True), versions, now)
        return len(queries)

    factories.UserFactory.create_batch(1)
    one = statements()
    factories.UserFactory.create_batch(20)
    assert statements() == one
    assert Holding.objects.count() == 2 * User.objects.count()


def test_ending_takes_the_right_away_at_once_and_twice_is_once(
    member: User, stranger: User, versions: list[BundleVersion], now: datetime
) -> None:
    give(people(member, stranger), versions, now)
    give(people(member), versions[:1], now, origin_key="release:2")
    assert services.end_holdings("release:1", users=people(member), reason="Recalled", now=now) == 2
    assert services.end_holdings("release:1", users=people(member), reason="Again", now=now) == 0
    assert Holding.objects.live().filter(entry__user=member).get().origin_key == "release:2"
    ended = Holding.objects.filter(entry__user=member, origin_key="release:1")
    assert set(ended.values_list("reason", "ended_at")) == {("Recalled", now)}
    assert services.end_holdings("release:1", reason="Recalled", now=now) == 2
    assert LibraryEntry.objects.of(stranger).live().count() == 0
    assert LibraryEntry.objects.of(member).live().count() == 1


def test_what_was_ended_does_not_come_back_by_the_same_way(
    member: User, versions: list[BundleVersion], now: datetime
) -> None:
    give(people(member), versions, now)
    services.end_holdings("release:1", reason="Recalled", now=now)
    assert give(people(member), versions, now) == 0
    assert not Holding.objects.live().exists()


def test_holding_all_means_every_version_and_live(
    creator: Creator, member: User, stranger: User, versions: list[BundleVersion], now: datetime
) -> None:
    contacts = [factories.ContactFactory.create(creator=creator, account=user) for user in (member, stranger)]
    factories.ContactFactory.create(creator=creator)
    give(people(member), versions, now)
    give(people(stranger), versions[:1], now)
    assert list(Contact.objects.filter(services.holds_all(versions))) == [contacts[0]]
    assert Contact.objects.filter(services.holds_all(versions[:1])).count() == 2
    assert not Contact.objects.filter(services.holds_all([])).exists()
    assert list(User.objects.filter(services.holds_all(versions, "pk"))) == [member]
    services.end_holdings("release:1", reason="", now=now)
    assert not Contact.objects.filter(services.holds_all(versions[:1])).exists()


def test_what_came_just_now_does_not_count_as_held_before(
    member: User, versions: list[BundleVersion], now: datetime
) -> None:
    give(people(member), versions, now)
    assert not User.objects.filter(services.holds_all(versions, "pk", before=now)).exists()
    later = now + timedelta(seconds=1)
    assert list(User.objects.filter(services.holds_all(versions, "pk", before=later))) == [member]


def test_an_older_version_is_not_the_one_asked_for(
    member: User, versions: list[BundleVersion], now: datetime
) -> None:
    give(people(member), versions[:1], now)
    newer = BundleVersion.objects.create(bundle=versions[0].bundle, number=2, sealed_at=now)
    assert not User.objects.filter(services.holds_all([newer], "pk")).exists()


def test_covers_are_seen_by_who_runs_or_holds_the_bundle(
    owner: User, member: User, stranger: User, versions: list[BundleVersion], now: datetime
) -> None:
    give(people(member), versions[:1], now)
    assert set(Bundle.objects.seen_by(owner)) == {version.bundle for version in versions}
    assert set(Bundle.objects.seen_by(member)) == {versions[0].bundle}
    assert set(Bundle.objects.seen_by(stranger)) == set()

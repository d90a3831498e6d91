"""Everyone entitled has one grant, once, whatever happens on the way."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.db import connection
from django.db.models import F

from accounts.models import User
from distribution import services
from distribution.models import Grant, Release
from groups.models import Contact, Group, Membership
from groups.services import start_membership
from library.models import Holding, LibraryEntry
from rows.lease import take_lease
from tests import factories
from tests.distribution.conftest import Give, Killed, at_once, killed_at

pytestmark = pytest.mark.django_db


def populate(group: Group, people: int) -> None:
    """Members of `group`, every other one with an account."""
    for number in range(people):
        user = factories.UserFactory.create() if number % 2 else None
        contact = factories.ContactFactory.create(creator=group.creator, account=user)
        factories.MembershipFactory.create(group=group, contact=contact)


def orphans() -> list[tuple[str, int]]:
    """What the missing constraints would have refused, looked for in plain SQL."""
    pairs = [
        ("distribution_grant", "release_id", "distribution_release"),
        ("distribution_grant", "contact_id", "groups_contact"),
        ("library_libraryentry", "user_id", "accounts_user"),
        ("library_libraryentry", "bundle_id", "library_bundle"),
        ("library_holding", "entry_id", "library_libraryentry"),
        ("library_holding", "version_id", "library_bundleversion"),
    ]
    found = []
    with connection.cursor() as cursor:
        for table, column, parent in pairs:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {column} NOT IN (SELECT id FROM {parent})")
            count = cursor.fetchone()[0]
            if count:
                found.append((f"{table}.{column}", count))
    return found


def judge(release: Release, people: int) -> None:
    """Each entitled contact once, each known account once, and the numbers add up."""
    release.refresh_from_db()
    assert release.state == Release.State.PUBLISHED
    assert release.lease_until is None
    assert release.granted == Grant.objects.count() == people
    known = User.objects.filter(contacts__isnull=False)
    assert release.held == known.count() == LibraryEntry.objects.count() == Holding.objects.count()
    assert set(Holding.objects.values_list("entry__user", flat=True)) == set(
        known.values_list("pk", flat=True)
    )
    assert orphans() == []


def test_a_known_account_holds_it_at_once_and_the_rest_waits(
    give: Give, contact: Contact, ana: Contact, now: datetime
) -> None:
    release = give()
    judge(release, 2)
    assert not Grant.objects.exclude(redeemed_at=None).exists()
    holding = Holding.objects.get()
    assert holding.entry.user == contact.account
    assert (holding.title, holding.group_name, holding.given_at) == ("October", "Patrons", now)
    assert holding.origin_key == release.origin_key
    assert holding.version == release.items.get().version
    assert str(Grant.objects.get(contact=ana)) == "October for Ana"


def test_every_bundle_of_a_release_is_held(release: Release, give: Give, contact: Contact) -> None:
    more = factories.BundleFactory.create_batch(2, creator=release.creator)
    services.choose_bundles(release, [*more, release.items.get().bundle])
    give()
    release.refresh_from_db()
    assert release.held == 1
    assert Holding.objects.count() == LibraryEntry.objects.filter(user=contact.account).count() == 3


def test_nobody_in_the_audience_is_a_release_of_none(give: Give) -> None:
    judge(give(), 0)


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_the_size_of_a_page_changes_nothing(give: Give, hobbyist: Group, collector: Group, page: int) -> None:
    populate(hobbyist, 5)
    populate(collector, 4)
    judge(give(page=page), 9)


def test_a_page_of_memberships_that_have_all_ended_is_passed_over(
    give: Give, hobbyist: Group, now: datetime
) -> None:
    populate(hobbyist, 4)
    Membership.objects.update(ended_at=now - timedelta(days=1))
    populate(hobbyist, 2)
    judge_people = User.objects.filter(contacts__memberships__ended_at=None, contacts__isnull=False)
    release = give(page=2)
    assert release.granted == 2
    assert release.held == judge_people.count()


def test_who_joins_or_is_recorded_after_the_due_moment_gets_nothing_even_if_the_worker_is_late(
    release: Release, owner: User, hobbyist: Group, ana: Contact, now: datetime
) -> None:
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    late = now + timedelta(hours=1)
    factories.MembershipFactory.create(group=hobbyist, started_at=late, recorded_at=late)
    factories.MembershipFactory.create(group=hobbyist, started_at=now - timedelta(days=9), recorded_at=late)
    Membership.objects.filter(contact=ana).update(ended_at=late)
    assert services.fan_out_grants(release.pk, now=now + timedelta(days=1))
    release.refresh_from_db()
    assert release.as_of == now
    assert [grant.contact for grant in Grant.objects.all()] == [ana]


def test_twice_is_once(give: Give, hobbyist: Group, now: datetime) -> None:
    populate(hobbyist, 3)
    release = give()
    before = Release.objects.values().get(pk=release.pk)
    assert not services.fan_out_grants(release.pk, now=now)
    assert Release.objects.values().get(pk=release.pk) == before
    judge(release, 3)


def test_nothing_is_given_before_it_is_due_nor_of_a_draft(
    release: Release, owner: User, ana: Contact, now: datetime
) -> None:
    assert not services.fan_out_grants(release.pk, now=now)
    services.confirm_release(release, publish_at=now + timedelta(hours=1), by=owner, now=now)
    assert not services.fan_out_grants(release.pk, now=now)
    assert not Grant.objects.exists()
    assert services.fan_out_grants(release.pk, now=now + timedelta(hours=1))


def test_an_account_with_two_contacts_holds_it_once(give: Give, contact: Contact, ana: Contact) -> None:
    Contact.objects.filter(pk=ana.pk).update(account=contact.account)
    release = give()
    assert (release.granted, release.held) == (2, 1)
    assert Holding.objects.get().entry.user == contact.account


def test_a_verified_address_is_found_before_its_page(give: Give, ana: Contact) -> None:
    user = factories.UserFactory.create(email=ana.address_key)
    release = give()
    ana.refresh_from_db()
    assert ana.account == user
    assert release.held == 1


def test_an_address_that_is_not_verified_is_nobodys(give: Give, ana: Contact) -> None:
    factories.UserFactory.create(email=ana.address_key, verified=False)
    release = give()
    ana.refresh_from_db()
    assert ana.account is None
    assert (release.granted, release.held) == (1, 0)


def test_one_import_later_the_same_release_is_not_touched(give: Give, hobbyist: Group, now: datetime) -> None:
    release = give()
    populate(hobbyist, 2)
    assert not services.fan_out_grants(release.pk, now=now + timedelta(days=1))
    assert services.extend_to_late_joiners(release.pk, now=now + timedelta(days=1)) == 0
    assert not Grant.objects.exists()


def test_a_worker_that_lost_the_lease_writes_nothing(
    release: Release, owner: User, hobbyist: Group, now: datetime
) -> None:
    populate(hobbyist, 3)
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    seen = Release.objects.get(pk=release.pk)

    def overtake(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith('INSERT INTO "distribution_grant"') and Grant.objects.count() == 2:
            raise AssertionError("a page was written without the lease")
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and '"cursor"' in sql:
            Release.objects.filter(pk=release.pk).update(epoch=seen.epoch + 10)
        return result

    with connection.execute_wrapper(overtake):
        assert not services.fan_out_grants(release.pk, now=now, page=2)
    assert Grant.objects.count() == 2
    release.refresh_from_db()
    assert (release.state, release.granted) == ("granting", 2)
    Release.objects.filter(pk=release.pk).update(lease_until=None)
    assert services.fan_out_grants(release.pk, now=now, page=2)
    judge(release, 3)


@contextmanager
def overtaken_after(release: Release, *words: str) -> Iterator[None]:
    """Another worker takes the release as soon as an UPDATE with these `words` is through."""

    def overtake(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and all(word in sql for word in words):
            Release.objects.filter(pk=release.pk).update(epoch=F("epoch") + 1)
        return result

    with connection.execute_wrapper(overtake):
        yield


def test_a_worker_overtaken_as_it_begins_does_not_take_its_successor_for_itself(
    release: Release, owner: User, ana: Contact, now: datetime
) -> None:
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    with overtaken_after(release, '"as_of"'):
        assert not services.fan_out_grants(release.pk, now=now)
    assert not Grant.objects.exists()


def test_a_worker_overtaken_before_it_begins_says_nothing_of_a_beginning(
    release: Release, owner: User, ana: Contact, now: datetime
) -> None:
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    with overtaken_after(release, '"epoch"', "lease_until"):
        assert not services.fan_out_grants(release.pk, now=now)
    release.refresh_from_db()
    assert (release.state, release.as_of) == (Release.State.CONFIRMED, None)
    assert release.lease_until is not None, "the lease is its successor's"


@pytest.mark.parametrize("state", [Release.State.PUBLISHED, Release.State.DRAFT])
def test_what_stopped_being_due_before_the_lease_was_taken_is_left_alone(
    release: Release, owner: User, ana: Contact, now: datetime, state: str
) -> None:
    """Another worker published it in between, or its creator took it back."""
    services.confirm_release(release, publish_at=now, by=owner, now=now)

    def overtake(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and '"epoch"' in sql and "lease_until" in sql:
            Release.objects.filter(pk=release.pk).update(state=state, as_of=now)
        return result

    with connection.execute_wrapper(overtake):
        assert not services.fan_out_grants(release.pk, now=now)
    release.refresh_from_db()
    assert (release.state, release.lease_until) == (state, None)
    assert not Grant.objects.exists()


def test_a_member_whose_row_commits_behind_the_cursor_is_found_at_the_end(
    release: Release, owner: User, hobbyist: Group, now: datetime
) -> None:
    first = factories.ContactFactory.create(creator=release.creator, account=factories.UserFactory.create())
    populate(hobbyist, 4)
    services.confirm_release(release, publish_at=now, by=owner, now=now)

    def commit_late(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and '"cursor" =' in sql and not first.memberships.exists():
            # As an import begun before `now` commits it.
            start_membership(hobbyist, first, now=now)
        return result

    with connection.execute_wrapper(commit_late):
        assert services.fan_out_grants(release.pk, now=now, page=2)
    assert Grant.objects.filter(contact=first).exists()
    judge(release, 5)


def test_a_member_whose_row_commits_behind_the_cursor_of_a_dead_worker_is_found_by_the_next(
    release: Release, owner: User, hobbyist: Group, now: datetime
) -> None:
    first = factories.ContactFactory.create(creator=release.creator, account=factories.UserFactory.create())
    populate(hobbyist, 4)
    services.confirm_release(release, publish_at=now, by=owner, now=now)

    def die(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith('INSERT INTO "distribution_grant"') and Grant.objects.count() == 2:
            raise Killed
        return execute(sql, params, many, context)

    with pytest.raises(Killed), connection.execute_wrapper(die):
        services.fan_out_grants(release.pk, now=now, page=2)
    start_membership(hobbyist, first, now=now)
    Release.objects.filter(pk=release.pk).update(lease_until=None)
    assert services.fan_out_grants(release.pk, now=now, page=2)
    assert Grant.objects.filter(contact=first).exists()
    judge(release, 5)


def test_while_a_lease_is_held_nobody_else_begins(
    release: Release, owner: User, ana: Contact, now: datetime
) -> None:
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    take_lease(Release.objects.get(pk=release.pk), seconds=60)
    assert not services.fan_out_grants(release.pk, now=now)
    assert not Grant.objects.exists()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_killed_before_any_statement_it_is_finished_by_the_next_worker(
    release: Release, owner: User, hobbyist: Group, now: datetime
) -> None:
    populate(hobbyist, 5)
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    statement, published = 0, False
    while not published:
        statement += 1
        Grant.objects.all().delete()
        Holding.objects.all().delete()
        LibraryEntry.objects.all().delete()
        fresh = {
            "state": "confirmed",
            "cursor": 0,
            "granted": 0,
            "held": 0,
            "as_of": None,
            "lease_until": None,
        }
        Release.objects.filter(pk=release.pk).update(**fresh)
        with killed_at(statement):
            published = services.fan_out_grants(release.pk, now=now, page=2)
        seen = Release.objects.get(pk=release.pk)
        assert seen.granted == Grant.objects.count()
        assert seen.held == Holding.objects.count()
        if not published:
            # The lease of the dead lapses.
            Release.objects.filter(pk=release.pk).update(lease_until=None)
            assert services.fan_out_grants(release.pk, now=now, page=2)
        judge(release, 5)
    assert statement > 30


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_statement_that_times_out_leaves_whole_pages(
    release: Release, owner: User, hobbyist: Group, now: datetime
) -> None:
    populate(hobbyist, 6)
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF (SELECT count(*) FROM library_holding) = 2 THEN PERFORM pg_sleep(9); END IF;"
            " RETURN NEW; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER stall BEFORE INSERT ON library_holding FOR EACH ROW EXECUTE FUNCTION stall()"
        )
        cursor.execute("SET statement_timeout = '300ms'")
        try:
            with pytest.raises(Exception, match="statement timeout"):
                services.fan_out_grants(release.pk, now=now, page=2)
        finally:
            cursor.execute("SET statement_timeout = 0")
            cursor.execute("DROP TRIGGER stall ON library_holding")
            cursor.execute("DROP FUNCTION stall")
    release.refresh_from_db()
    assert release.granted == Grant.objects.count()
    assert release.held == Holding.objects.count() == 2
    Release.objects.filter(pk=release.pk).update(lease_until=None)
    assert services.fan_out_grants(release.pk, now=now, page=2)
    judge(release, 6)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_workers_at_once_one_gives(
    release: Release, owner: User, hobbyist: Group, now: datetime
) -> None:
    populate(hobbyist, 30)
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    done = at_once(2, lambda _number: services.fan_out_grants(release.pk, now=now, page=3))
    assert done.count(True) == 1
    judge(release, 30)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_wakes_from_a_stall_beside_its_successor_doubles_nothing(
    release: Release, owner: User, hobbyist: Group, now: datetime
) -> None:
    populate(hobbyist, 30)
    services.confirm_release(release, publish_at=now, by=owner, now=now)

    def one(number: int) -> bool:
        # Each takes over from the other again and again, as if every lease lapsed at once.
        done = False
        while not done and Release.objects.exclude(state="published").filter(pk=release.pk).exists():
            Release.objects.filter(pk=release.pk).update(lease_until=None)
            done = services.fan_out_grants(release.pk, now=now, page=2 + number)
        return done

    assert at_once(3, one).count(True) == 1
    judge(release, 30)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_an_account_verified_while_its_page_is_written_misses_nothing(
    release: Release, owner: User, hobbyist: Group, now: datetime
) -> None:
    people = 24
    for number in range(people):
        user = factories.UserFactory.create(email=f"p{number}@example.org", verified=False)
        EmailAddress.objects.create(user=user, email=user.email)
        contact = factories.ContactFactory.create(creator=release.creator, address_key=user.email)
        factories.MembershipFactory.create(group=hobbyist, contact=contact)
    users = list(User.objects.filter(email__startswith="p").order_by("pk"))
    services.confirm_release(release, publish_at=now, by=owner, now=now)

    def one(number: int) -> bool:
        if number == 0:
            return services.fan_out_grants(release.pk, now=now, page=2)
        for user in users[number - 1 :: 4]:
            EmailAddress.objects.filter(user=user).update(verified=True)
            services.settle_waiting(user, now=now)
        return False

    assert at_once(5, one)[0]
    assert Grant.objects.count() == people
    assert set(Holding.objects.values_list("entry__user", flat=True)) == {user.pk for user in users}
    at_giving = Grant.objects.filter(redeemed_at=None).count()
    assert Release.objects.get(pk=release.pk).held == at_giving


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_whoever_signs_in_between_a_page_and_its_commit_waits_for_it_and_has_it(
    release: Release, owner: User, ana: Contact, now: datetime
) -> None:
    user = factories.UserFactory.create(email=ana.address_key, verified=False)
    EmailAddress.objects.create(user=user, email=user.email)
    services.confirm_release(release, publish_at=now, by=owner, now=now)
    written, go = Event(), Event()

    def pause(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith("UPDATE") and '"cursor" =' in sql:
            written.set()
            go.wait(9)
        return execute(sql, params, many, context)

    def one(number: int) -> object:
        if number == 0:
            with connection.execute_wrapper(pause):
                return services.fan_out_grants(release.pk, now=now)
        written.wait(9)
        if number == 1:
            EmailAddress.objects.filter(user=user).update(verified=True)
            return services.settle_waiting(user, now=now)
        # Long enough for the sign-in to reach the page's lock.
        time.sleep(0.5)
        return go.set()

    assert at_once(3, one)[:2] == [True, 1]
    assert Holding.objects.get().entry.user == user

"""What workers count for large pages is what the pages would count, whatever was done; and it is found without them."""

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts.models import User
from distribution import tasks as giving
from distribution.models import Grant, Release
from distribution.services import (
    counting,
    downloaders,
    fan_out_grants,
    recall_release,
    redeem_grant,
    redeemed_of,
    revoke_grant,
    turnout,
)
from groups import tasks as grouping
from groups.models import Contact, Creator, Group, Membership
from groups.services import (
    add_contact,
    archive_group,
    end_membership,
    people_of,
    sizes,
    start_membership,
)
from library.models import Bundle, Download, LibraryEntry
from library.services import count_holders, holders_of
from studio.queries import group_cards, people_in
from studio.queries.search import called, found_by
from tests import factories


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is counted by workers, as it is of large groups and releases."""
    monkeypatch.setattr("groups.services.sizes.FEW", 0)
    monkeypatch.setattr("library.services.holders.FEW", 0)
    monkeypatch.setattr(Release, "FEW", 0)


@pytest.mark.usefixtures("few_are_many")
def test_a_groups_size_is_counted_anew_after_every_service_that_changes_who_belongs(
    creator: Creator, patrons: Group, hobbyist: Group, collector: Group, now: datetime
) -> None:
    def kept_is_true(at: datetime = now) -> int:
        for number in sizes.groups_to_count(at):
            sizes.count_people(number, now=at)
        live = Membership.objects.live(at).filter(group__creator=creator, group__archived_at=None)
        for group in creator.groups.live():
            assert people_of([group], now=at).get(group.pk, 0) == live.filter(group=group).count()
        return sum(card.people for card in group_cards(creator, now=at))

    assert kept_is_true() == 0
    contact = add_contact(creator, "ana@example.org", "Ana", now=now)
    membership = start_membership(hobbyist, contact, now=now)
    assert kept_is_true() == 1
    assert Group.objects.get(pk=hobbyist.pk).people == 1
    start_membership(collector, contact, now=now + timedelta(minutes=1), move=True)
    assert kept_is_true(now + timedelta(minutes=2)) == 1
    end_membership(Membership.objects.get(group=collector), now=now + timedelta(minutes=3))
    assert kept_is_true(now + timedelta(minutes=4)) == 0
    start_membership(patrons, contact, now=now + timedelta(minutes=5))
    assert kept_is_true(now + timedelta(minutes=6)) == 1
    assert people_in(Group.objects.get(pk=patrons.pk), now=now + timedelta(minutes=6)) == 1
    # A day that was known long before comes by itself.
    Membership.objects.filter(ended_at=None).update(ended_at=now + timedelta(minutes=20))
    assert kept_is_true(now + timedelta(minutes=30)) == 0
    archive_group(Group.objects.get(pk=patrons.pk), now=now + timedelta(minutes=40))
    assert kept_is_true(now + timedelta(minutes=50)) == 0
    assert membership.pk


def test_the_group_sweep_counts_a_large_group_and_forgets_the_number_of_one_that_shrank(
    hobbyist: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groups.services.sizes.FEW", 2)
    people = factories.MembershipFactory.create_batch(3, group=hobbyist)
    Group.objects.filter(pk=hobbyist.pk).update(roster_version=7)
    grouping.sweep()
    hobbyist.refresh_from_db()
    assert (hobbyist.people, hobbyist.counted_version) == (3, 7)
    Membership.objects.filter(pk=people[0].pk).delete()
    Group.objects.filter(pk=hobbyist.pk).update(roster_version=8)
    grouping.sweep()
    hobbyist.refresh_from_db()
    assert (hobbyist.people, hobbyist.counted_version) == (None, 8)


def test_a_group_that_cannot_be_counted_keeps_no_other_from_its_turn(
    hobbyist: Group, collector: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    Group.objects.filter(pk=collector.pk).update(roster_version=3)
    monkeypatch.setattr("groups.services.sizes.groups_to_count", lambda _now: [0, collector.pk])
    grouping.sweep()
    collector.refresh_from_db()
    assert collector.counted_version == 3


@pytest.fixture
def given(creator: Creator, hobbyist: Group, member: User, now: datetime) -> Release:
    """A release that four people were given, the member among them."""
    release = factories.ReleaseFactory.create(
        creator=creator,
        bundles=[factories.BundleFactory.create(creator=creator)],
        groups=[hobbyist],
        state=Release.State.CONFIRMED,
        publish_at=now,
    )
    for item in release.items.all():
        item.version = item.bundle.versions.get()
        item.save(update_fields=["version"])
    address = member.email
    for contact in [
        factories.ContactFactory.create(creator=creator, address_key=address),
        *factories.ContactFactory.create_batch(3, creator=creator),
    ]:
        factories.MembershipFactory.create(
            group=hobbyist,
            contact=contact,
            started_at=now - timedelta(days=9),
            recorded_at=now - timedelta(days=9),
        )
    assert fan_out_grants(release.pk, now=now)
    release.refresh_from_db()
    return release


@pytest.mark.usefixtures("few_are_many")
def test_who_redeemed_and_who_downloaded_is_the_same_counted_at_once_or_in_turns(
    given: Release, stranger: User, now: datetime
) -> None:
    version = given.items.get().version
    assert version is not None

    def check(at: datetime) -> tuple[int, int]:
        fresh = Release.objects.get(pk=given.pk)
        in_turns = turnout(fresh)
        redeemed = Grant.objects.filter(release=given, redeemed_at__isnull=False).count()
        assert (in_turns.redeemed, in_turns.downloaded) == (redeemed, downloaders(given).count())
        assert redeemed_of([fresh]) == {given.pk: redeemed}
        counting.count_turnout(given.pk, now=at)
        after = turnout(Release.objects.get(pk=given.pk))
        assert after == in_turns
        return after.redeemed, after.downloaded

    assert check(now) == (0, 0)
    grant = Grant.objects.filter(release=given, contact__account=None).order_by("pk")[0]
    Contact.objects.filter(pk=grant.contact_id).update(account=stranger)
    redeem_grant(Grant.objects.get(pk=grant.pk), user=stranger, now=now + timedelta(minutes=1))
    assert check(now + timedelta(minutes=2)) == (1, 0)
    Download.objects.create(user=stranger, version=version, at=now + timedelta(minutes=3))
    assert check(now + timedelta(minutes=4)) == (1, 1)
    assert check(now + timedelta(minutes=30)) == (1, 1)
    assert Release.objects.get(pk=given.pk).downloaded == 1
    # Taken again later: still one person. Somebody who was never given it is none.
    Download.objects.create(user=stranger, version=version, at=now + timedelta(minutes=31))
    Download.objects.create(
        user=factories.UserFactory.create(), version=version, at=now + timedelta(minutes=31)
    )
    assert check(now + timedelta(minutes=32)) == (1, 1)
    assert check(now + timedelta(hours=9)) == (1, 1)


@pytest.mark.usefixtures("few_are_many")
def test_holders_are_counted_anew_after_every_service_that_changes_them(
    given: Release, owner: User, stranger: User, now: datetime
) -> None:
    bundle_id = given.items.get().bundle_id

    def check() -> int:
        count_holders(bundle_id, now=now)
        bundle = Bundle.objects.get(pk=bundle_id)
        holders = LibraryEntry.objects.filter(bundle=bundle).live().count()
        assert holders_of([bundle]).get(bundle.pk, 0) == holders
        assert bundle.holders == (holders or None)
        return holders

    before = check()
    grant = Grant.objects.filter(release=given, contact__account=None).order_by("pk")[0]
    Contact.objects.filter(pk=grant.contact_id).update(account=stranger)
    redeem_grant(Grant.objects.get(pk=grant.pk), user=stranger, now=now)
    assert check() == before + 1
    revoke_grant(Grant.objects.get(pk=grant.pk), by=owner, now=now)
    assert check() == before
    recall_release(given, because="", by=owner, now=now)
    giving.take_back(given.pk)
    assert check() == 0


@pytest.mark.usefixtures("few_are_many")
def test_the_release_sweep_counts_a_large_release_that_was_given(given: Release) -> None:
    assert given.counted_at is None
    giving.sweep()
    given.refresh_from_db()
    assert given.counted_at is not None
    assert given.items.get().bundle.holders_at is not None


def test_people_are_found_by_any_part_of_their_name_or_address(creator: Creator) -> None:
    zoe = factories.ContactFactory.create(creator=creator, name="Zoë Quill", address_key="z_100%@ink.example")
    factories.ContactFactory.create(creator=creator, name="Bo", address_key="bo@example.org")
    factories.ContactFactory.create(name="Zoë Quill")
    for words in ("quill", "QUILL", "zoë q", "ink.ex", "z_100%", "100%@"):
        assert found_by(words, creator.pk).contacts == [zoe.pk], words
    for words in ("quilt", "zz_100", "%%%", "'", "\\"):
        assert found_by(words, creator.pk).contacts == [], words


@pytest.mark.postgres
@pytest.mark.django_db
def test_where_the_index_could_not_be_made_people_are_found_by_the_beginning_and_it_is_said(
    creator: Creator,
) -> None:
    zoe = factories.ContactFactory.create(creator=creator, name="Zoë Quill", address_key="zoe@ink.example")
    assert not found_by("quill", creator.pk).partly
    # Of two letters no index knows anything.
    assert found_by("zo", creator.pk).contacts == [zoe.pk]
    assert found_by("zo", creator.pk).partly
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX contact_by_words")
    assert found_by("quill", creator.pk).contacts == []
    assert found_by("quill", creator.pk).partly
    assert found_by("zoe@", creator.pk).contacts == [zoe.pk]


@pytest.mark.postgres
@pytest.mark.django_db
def test_a_search_asks_for_what_the_index_of_the_migration_holds(creator: Creator) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "contact_by_words" in Contact.objects.called("quill").explain()
    # Of a short list each is looked at: the index would bring everybody's of that name, a neighbour's too.
    assert (
        "contact_by_words" not in called(Membership.objects.filter(group__creator=creator), "quill").explain()
    )


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_the_migration_goes_on_where_the_extension_may_not_be_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "0006_contact_by_words"
    executor = MigrationExecutor(connection)
    module = executor.loader.get_migration("groups", name).__module__
    monkeypatch.setattr(f"{module}.EXTENSIONS", ["no_such_extension"])
    executor.migrate([("groups", "0005_counted")])
    try:
        executor = MigrationExecutor(connection)
        executor.migrate([("groups", name)])
        assert "beginning of their address" in capsys.readouterr().out
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('contact_by_prefix'), to_regclass('contact_by_words')")
            assert cursor.fetchone() == ("contact_by_prefix", None)
    finally:
        monkeypatch.undo()
        MigrationExecutor(connection).migrate([("groups", "0005_counted")])
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes())

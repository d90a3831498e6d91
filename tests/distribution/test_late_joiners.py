"""Whoever joins later, if the release says so, gets it too; by the roster's version, never by an id."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from accounts.models import User
from distribution import services
from distribution.models import Grant, Release
from distribution.services import grants
from groups.models import Contact, Group, Membership
from groups.services import add_contact, archive_group, end_membership, start_membership
from library.models import Holding
from rows.lease import take_lease
from tests import factories
from tests.distribution.conftest import Give, at_once, killed_at

pytestmark = pytest.mark.django_db


@pytest.fixture
def open_release(release: Release, patrons: Group) -> Release:
    """The release, for whoever joins later too."""
    services.choose_audience(release, [patrons], Release.Rule.LATE_JOINERS)
    return release


def join(group: Group, address: str, now: datetime) -> Contact:
    contact = add_contact(group.creator, address, "", now=now)
    start_membership(group, contact, now=now)
    return contact


def later(now: datetime, hours: int = 1) -> datetime:
    return now + timedelta(hours=hours)


def test_who_joins_later_gets_it_once_and_an_account_holds_it_at_once(
    open_release: Release, give: Give, hobbyist: Group, member: User, ana: Contact, now: datetime
) -> None:
    release = give(open_release)
    assert release.granted == 1
    join(hobbyist, "late@example.org", later(now))
    known = join(hobbyist, member.email, later(now))
    assert list(Release.objects.behind()) == [release]
    assert services.extend_to_late_joiners(release.pk, now=later(now, 2)) == 2
    assert services.extend_to_late_joiners(release.pk, now=later(now, 2)) == 0
    assert not Release.objects.behind().exists()
    release.refresh_from_db()
    assert (release.granted, release.held, release.lease_until) == (3, 1, None)
    assert Grant.objects.get(contact=known).granted_at == later(now, 2)
    assert Holding.objects.get().entry.user == member


def test_right_after_publishing_it_looks_once_for_who_joined_meanwhile(
    open_release: Release, give: Give, hobbyist: Group, now: datetime
) -> None:
    join(hobbyist, "early@example.org", now)
    release = give(open_release)
    assert list(Release.objects.behind()) == [release]
    assert services.extend_to_late_joiners(release.pk, now=later(now)) == 0
    assert not Release.objects.behind().exists()


def test_ids_that_commit_out_of_order_hide_nobody(
    open_release: Release, give: Give, hobbyist: Group, now: datetime
) -> None:
    """The contact of the smallest id joins last."""
    first = factories.ContactFactory.create(creator=hobbyist.creator)
    release = give(open_release)
    join(hobbyist, "second@example.org", later(now))
    assert services.extend_to_late_joiners(release.pk, now=later(now, 2)) == 1
    start_membership(hobbyist, first, now=later(now, 3))
    assert services.extend_to_late_joiners(release.pk, now=later(now, 4)) == 1
    assert Grant.objects.filter(contact=first).exists()


def test_the_page_is_as_small_as_one_likes(
    open_release: Release, give: Give, hobbyist: Group, now: datetime
) -> None:
    release = give(open_release)
    for number in range(5):
        join(hobbyist, f"p{number}@example.org", now)
    assert services.extend_to_late_joiners(release.pk, now=later(now), page=2) == 5


def test_who_leaves_keeps_it_and_who_never_joined_gets_nothing(
    open_release: Release, give: Give, ana: Contact, now: datetime
) -> None:
    release = give(open_release)
    end_membership(Membership.objects.get(contact=ana), now=later(now))
    assert services.extend_to_late_joiners(release.pk, now=later(now, 2)) == 0
    assert Grant.objects.filter(contact=ana).exists()
    assert not Release.objects.behind().exists()


def test_a_join_by_a_clock_ahead_of_ours_is_looked_for_again(
    open_release: Release, give: Give, hobbyist: Group, now: datetime
) -> None:
    release = give(open_release)
    join(hobbyist, "ahead@example.org", later(now, 2))
    assert services.extend_to_late_joiners(release.pk, now=later(now)) == 0
    assert list(Release.objects.behind()) == [release]
    assert services.extend_to_late_joiners(release.pk, now=later(now, 2)) == 1
    assert not Release.objects.behind().exists()


def test_a_group_that_is_archived_reaches_nobody_any_more(
    open_release: Release, give: Give, hobbyist: Group, collector: Group, now: datetime
) -> None:
    release = give(open_release)
    join(collector, "gone@example.org", now)
    archive_group(collector, now=later(now))
    assert services.extend_to_late_joiners(release.pk, now=later(now, 2)) == 0
    assert not Release.objects.behind().exists()


def test_a_release_for_the_moment_of_publishing_is_never_behind(
    give: Give, hobbyist: Group, now: datetime
) -> None:
    release = give()
    join(hobbyist, "late@example.org", now)
    assert not Release.objects.behind().exists()
    assert services.extend_to_late_joiners(release.pk, now=later(now)) == 0


def test_while_somebody_else_is_at_it_nothing_is_done(
    open_release: Release, give: Give, hobbyist: Group, now: datetime
) -> None:
    release = give(open_release)
    join(hobbyist, "late@example.org", now)
    take_lease(Release.objects.get(pk=release.pk), seconds=60)
    assert services.extend_to_late_joiners(release.pk, now=later(now)) == 0
    assert not Grant.objects.exists()


def test_a_worker_that_lost_the_lease_neither_gives_nor_says_it_looked(
    open_release: Release, give: Give, hobbyist: Group, now: datetime
) -> None:
    release = give(open_release)
    join(hobbyist, "late@example.org", now)

    def overtake(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith("SELECT") and "NOT (EXISTS" in sql:
            Release.objects.filter(pk=release.pk).update(epoch=99)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(overtake):
        assert services.extend_to_late_joiners(release.pk, now=later(now)) == 0
    assert not Grant.objects.exists()
    Release.objects.filter(pk=release.pk).update(lease_until=None)
    assert services.extend_to_late_joiners(release.pk, now=later(now)) == 1


def test_who_joins_while_it_looks_is_found_by_the_next_look(
    open_release: Release, give: Give, hobbyist: Group, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = give(open_release)
    join(hobbyist, "late@example.org", now)
    give_missing = grants._give_missing

    def joined_after(*arguments: Any) -> int:
        added = give_missing(*arguments)
        join(hobbyist, "later@example.org", now)
        return added

    with monkeypatch.context() as joining:
        joining.setattr(grants, "_give_missing", joined_after)
        assert services.extend_to_late_joiners(release.pk, now=later(now)) == 1
    assert list(Release.objects.behind()) == [release]
    assert services.extend_to_late_joiners(release.pk, now=later(now)) == 1
    assert not Release.objects.behind().exists()


@pytest.mark.django_db(transaction=True)
def test_killed_before_any_statement_the_next_sweep_finishes_it(
    open_release: Release, give: Give, hobbyist: Group, member: User, now: datetime
) -> None:
    release = give(open_release)
    statement, added = 0, 0
    while not added:
        statement += 1
        Holding.objects.all().delete()
        Grant.objects.all().delete()
        Membership.objects.all().delete()
        join(hobbyist, member.email, now)
        Release.objects.filter(pk=release.pk).update(granted=0, held=0)
        with killed_at(statement):
            added = services.extend_to_late_joiners(release.pk, now=later(now))
        if not added:
            Release.objects.filter(pk=release.pk).update(lease_until=None)
            services.extend_to_late_joiners(release.pk, now=later(now))
        release.refresh_from_db()
        assert Grant.objects.count() == Holding.objects.count() == release.granted == release.held == 1
        assert not Release.objects.behind().exists()
    assert statement > 10


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_joining_while_it_is_extended_is_found_by_this_sweep_or_the_next(
    open_release: Release, give: Give, hobbyist: Group, now: datetime
) -> None:
    release = give(open_release)

    def one(number: int) -> None:
        if number:
            for n in range(5):
                join(hobbyist, f"p{number}-{n}@example.org", now)
        else:
            for _again in range(10):
                services.extend_to_late_joiners(release.pk, now=later(now))

    at_once(5, one)
    while Release.objects.behind().exists():
        services.extend_to_late_joiners(release.pk, now=later(now))
    assert Grant.objects.count() == Membership.objects.count() == 20
    release.refresh_from_db()
    assert release.granted == 20

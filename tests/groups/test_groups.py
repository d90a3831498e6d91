from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from groups.imports.values import ValueRefused
from groups.models import Contact, Creator, Group, Import, Membership
from groups.services import archive_group, create_group, rename_group, start_membership, who_gains_what
from groups.services.groups import GroupNameTaken, ImportUnderway, NameMissing, OneLevelOnly
from tests.factories import ContactFactory, CreatorFactory, GroupFactory, MembershipFactory


def test_a_group_and_its_sub_groups_are_created(creator: Creator, now: datetime) -> None:
    main = create_group(creator, name=" All  tiers ", kind="backers", now=now)
    sub = create_group(creator, name="Hobbyist", kind="other", parent=main, now=now)

    assert (main.name, main.parent, main.main) == ("All tiers", None, main)
    assert (sub.kind, sub.parent, sub.main) == ("backers", main, main)


def test_a_name_is_taken_once_in_its_place_while_live(patrons: Group, hobbyist: Group, now: datetime) -> None:
    creator = patrons.creator
    with pytest.raises(GroupNameTaken):
        create_group(creator, name="Patrons", kind="patrons", now=now)
    with pytest.raises(GroupNameTaken):
        create_group(creator, name="Hobbyist", kind="patrons", parent=patrons, now=now)
    assert Group.objects.count() == 2

    archive_group(hobbyist, now=now)
    assert create_group(creator, name="Hobbyist", kind="patrons", parent=patrons, now=now)
    assert create_group(creator, name="Hobbyist", kind="patrons", now=now)


def test_groups_nest_one_level_in_live_groups_of_the_same_creator(
    patrons: Group, hobbyist: Group, now: datetime
) -> None:
    elsewhere = GroupFactory.create()
    archived = GroupFactory.create(creator=patrons.creator, archived_at=now)
    for parent in (hobbyist, elsewhere, archived):
        with pytest.raises(OneLevelOnly):
            create_group(patrons.creator, name="Deep", kind="patrons", parent=parent, now=now)

    assert not Group.objects.filter(name="Deep").exists()


@pytest.mark.parametrize(
    ("name", "refusal"), [("", NameMissing), ("\u200b", NameMissing), ("a\nb", ValueRefused)]
)
def test_a_group_needs_a_visible_name(
    patrons: Group, now: datetime, name: str, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        create_group(patrons.creator, name=name, kind="patrons", now=now)
    with pytest.raises(refusal):
        rename_group(patrons, name=name)

    patrons.refresh_from_db()
    assert patrons.name == "Patrons"


def test_renaming_twice_is_harmless_and_a_taken_name_is_refused(hobbyist: Group, collector: Group) -> None:
    rename_group(hobbyist, name="Friend")
    rename_group(hobbyist, name="Friend")
    with pytest.raises(GroupNameTaken):
        rename_group(hobbyist, name="Collector")

    hobbyist.refresh_from_db()
    assert hobbyist.name == "Friend"


def test_archiving_ends_the_memberships_of_the_whole_branch(
    patrons: Group, hobbyist: Group, collector: Group, now: datetime
) -> None:
    MembershipFactory.create(group=hobbyist)
    MembershipFactory.create(group=collector)
    just_now = MembershipFactory.create(group=patrons, started_at=now)

    assert archive_group(hobbyist, now=now) == 1
    collector.refresh_from_db()
    assert collector.archived_at is None

    assert archive_group(patrons, now=now) == 2
    assert archive_group(patrons, now=now) == 0
    assert not Group.objects.live().exists()
    assert not Membership.objects.live(now + timedelta(seconds=1)).exists()
    just_now.refresh_from_db()
    assert just_now.ended_at == now + timedelta(microseconds=1)


def test_a_group_is_not_archived_under_an_import(patrons: Group, hobbyist: Group, now: datetime) -> None:
    Import.objects.create(group=patrons, state="applying", created_at=now, layout={}, survey={}, mapping={})

    with pytest.raises(ImportUnderway):
        archive_group(hobbyist, now=now)

    hobbyist.refresh_from_db()
    assert hobbyist.archived_at is None


def test_what_is_shared_reaches_up_and_down_but_not_sideways(
    patrons: Group, hobbyist: Group, collector: Group, now: datetime
) -> None:
    assert set(Group.objects.reaching([patrons])) == {patrons, hobbyist, collector}
    assert set(Group.objects.reaching([hobbyist])) == {hobbyist, patrons}
    assert set(Group.objects.reaching([hobbyist, collector])) == {hobbyist, collector, patrons}

    archive_group(collector, now=now)
    assert set(Group.objects.reaching([patrons])) == {patrons, hobbyist}


def test_the_panel_says_who_joins_who_is_there_and_who_leaves_what(
    patrons: Group, hobbyist: Group, collector: Group, contact: Contact, now: datetime
) -> None:
    ContactFactory.create(creator=patrons.creator)
    start_membership(collector, ContactFactory.create(creator=patrons.creator), now=now)
    people = Contact.objects.filter(creator=patrons.creator)

    gains = who_gains_what(collector, people, now=now)
    assert (gains.joining, gains.there_already, gains.leaving) == (2, 1, {hobbyist: 1})
    assert set(gains.hears_from) == {collector, patrons}

    gains = who_gains_what(patrons, people, now=now)
    assert (gains.joining, gains.there_already) == (3, 0)
    assert set(gains.hears_from) == {patrons, hobbyist, collector}


@pytest.mark.parametrize("people", [1, 3])
def test_the_panel_costs_the_same_for_one_and_for_three(
    patrons: Group, hobbyist: Group, now: datetime, people: int
) -> None:
    for _number in range(people):
        MembershipFactory.create(group=hobbyist)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        who_gains_what(patrons, Contact.objects.filter(creator=patrons.creator), now=now)

    assert len(queries) == 4


def test_groups_and_imports_are_seen_by_their_staff_only(
    owner: User, stranger: User, patrons: Group, contact: Contact, now: datetime
) -> None:
    Import.objects.create(group=patrons, created_at=now, layout={}, survey={}, mapping={})
    for rows in (Group.objects, Contact.objects, Creator.objects, Import.objects):
        assert rows.run_by(owner).exists()
        assert not rows.run_by(stranger).exclude(pk__in=Creator.objects.filter(slug="sams-shop")).exists()
    assert CreatorFactory.create().zone.key == "Europe/Berlin"


def test_a_name_that_differs_by_case_only_is_taken(hobbyist: Group, collector: Group, now: datetime) -> None:
    with pytest.raises(GroupNameTaken):
        create_group(hobbyist.creator, name="HOBBYIST", kind="patrons", parent=hobbyist.parent, now=now)
    with pytest.raises(GroupNameTaken):
        rename_group(collector, name="hobbyist")
    rename_group(hobbyist, name="HOBBYIST")
    assert Group.objects.get(pk=hobbyist.pk).name == "HOBBYIST"

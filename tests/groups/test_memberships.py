from datetime import datetime, timedelta

import pytest
from allauth.account.models import EmailAddress
from django.conf import LazySettings

from accounts.addresses import AddressRefused
from accounts.models import User
from groups.models import Contact, Creator, Group, Membership
from groups.services import (
    add_contact,
    attach_account,
    attach_verified_accounts,
    end_membership,
    start_membership,
)
from groups.services.memberships import AlreadyInTree, GroupArchived
from tests.factories import ContactFactory, GroupFactory, MembershipFactory, UserFactory


def rosters(*groups: Group) -> list[int]:
    return [Group.objects.get(pk=group.pk).roster_version for group in groups]


@pytest.fixture
def newcomer(creator: Creator) -> Contact:
    return ContactFactory.create(creator=creator, address_key="new@example.org")


def test_a_membership_starts_now_and_raises_the_rosters_it_touches(
    patrons: Group, hobbyist: Group, collector: Group, newcomer: Contact, now: datetime
) -> None:
    membership = start_membership(hobbyist, newcomer, now=now)

    assert (membership.started_at, membership.ended_at, membership.brought_by) == (now, None, None)
    assert rosters(patrons, hobbyist, collector) == [1, 1, 0]
    start_membership(patrons, newcomer, now=now + timedelta(days=1), move=True)
    assert rosters(patrons, hobbyist, collector) == [2, 2, 1]


def test_starting_twice_gives_the_membership_that_is_there(
    hobbyist: Group, newcomer: Contact, now: datetime
) -> None:
    first = start_membership(hobbyist, newcomer, now=now)

    assert start_membership(hobbyist, newcomer, now=now + timedelta(days=1)) == first
    assert Membership.objects.count() == 1
    assert rosters(hobbyist) == [1]


def test_starting_again_takes_back_a_planned_end(hobbyist: Group, newcomer: Contact, now: datetime) -> None:
    planned = MembershipFactory.create(group=hobbyist, contact=newcomer, ended_at=now + timedelta(days=9))

    assert start_membership(hobbyist, newcomer, now=now) == planned
    planned.refresh_from_db()
    assert planned.ended_at is None


def test_one_place_in_a_tree(patrons: Group, hobbyist: Group, contact: Contact, now: datetime) -> None:
    with pytest.raises(AlreadyInTree, match="Mia Berg is in Patrons · Hobbyist already"):
        start_membership(patrons, contact, now=now)
    assert rosters(patrons) == [0]

    start_membership(patrons, contact, now=now, move=True)

    assert [held.group for held in contact.memberships.live(now)] == [patrons]
    assert contact.memberships.get(group=hobbyist).ended_at == now


def test_moving_to_where_one_is_ends_what_lies_elsewhere(
    patrons: Group, hobbyist: Group, contact: Contact, now: datetime
) -> None:
    here = MembershipFactory.create(group=patrons, contact=contact)

    assert start_membership(patrons, contact, now=now, move=True) == here
    assert contact.memberships.live(now).count() == 1


def test_an_archived_group_takes_nobody(hobbyist: Group, newcomer: Contact, now: datetime) -> None:
    Group.objects.filter(pk=hobbyist.pk).update(archived_at=now)

    with pytest.raises(GroupArchived):
        start_membership(hobbyist, newcomer, now=now)
    assert not Membership.objects.exists()


def test_a_stranger_s_contact_is_a_programming_error(hobbyist: Group, now: datetime) -> None:
    with pytest.raises(ValueError, match="own creator"):
        start_membership(hobbyist, ContactFactory.create(), now=now)


def test_a_membership_ends_once_and_is_kept(
    patrons: Group, hobbyist: Group, contact: Contact, now: datetime
) -> None:
    membership = contact.memberships.get()

    assert end_membership(membership, now=now)
    assert not end_membership(membership, now=now + timedelta(days=1))

    membership.refresh_from_db()
    assert membership.ended_at == now
    assert rosters(patrons, hobbyist) == [1, 1]
    assert not Membership.objects.live(now).exists()
    assert Membership.objects.live(now - timedelta(seconds=1)).exists()


def test_a_membership_ended_in_the_instant_it_began_lasts_a_microsecond(
    hobbyist: Group, newcomer: Contact, now: datetime
) -> None:
    membership = start_membership(hobbyist, newcomer, now=now)

    assert end_membership(membership, now=now)
    membership.refresh_from_db()
    assert membership.ended_at == now + timedelta(microseconds=1)


def test_a_new_contact_gets_the_account_that_verified_its_address(
    creator: Creator, member: User, now: datetime
) -> None:
    contact = add_contact(creator, " Mia@Example.org ", "", now=now)
    again = add_contact(creator, "mia@example.org", "Mia Berg", now=now)
    third = add_contact(creator, "mia@example.org", "Somebody else", now=now)

    assert contact == again == third
    assert contact.account == member
    assert (again.name, third.name) == ("Mia Berg", "Mia Berg")


def test_an_unverified_address_gives_no_account(creator: Creator, now: datetime) -> None:
    UserFactory.create(email="eve@example.org", verified=False)
    EmailAddress.objects.create(user=UserFactory.create(), email="eve@example.org", verified=False)

    assert add_contact(creator, "eve@example.org", "Eve", now=now).account is None


def test_a_contact_needs_an_address(creator: Creator, now: datetime) -> None:
    with pytest.raises(AddressRefused):
        add_contact(creator, "nobody", "Nobody", now=now)
    assert not Contact.objects.exists()


def test_attaching_an_account_twice_changes_nothing(creator: Creator, member: User, owner: User) -> None:
    mine, other = (ContactFactory.create(creator=creator) for _number in range(2))
    attach_account(Contact.objects.filter(pk=other.pk), owner)
    everyone = Contact.objects.all()

    assert attach_account(everyone, member) == 2
    assert attach_account(everyone, member) == 0
    mine.refresh_from_db()
    assert mine.account == member


def test_a_verified_owner_beats_a_remembered_pair_and_nobody_else_does(
    creator: Creator, member: User, owner: User
) -> None:
    theirs = ContactFactory.create(creator=creator, address_key=member.email, account=owner)
    nobodys = ContactFactory.create(creator=creator, account=owner)
    new = ContactFactory.create(creator=ContactFactory.create().creator, address_key=member.email)

    assert attach_verified_accounts(Contact.objects.all()) == 2
    assert attach_verified_accounts(Contact.objects.all()) == 0
    for contact, account in ((theirs, member), (nobodys, owner), (new, member)):
        contact.refresh_from_db()
        assert contact.account == account


def test_memberships_of_a_tree_are_those_of_all_its_groups(
    patrons: Group, hobbyist: Group, now: datetime
) -> None:
    held = {MembershipFactory.create(group=patrons), MembershipFactory.create(group=hobbyist)}
    MembershipFactory.create(group=GroupFactory.create(creator=patrons.creator))

    assert set(Membership.objects.in_tree(hobbyist)) == set(Membership.objects.in_tree(patrons)) == held


@pytest.mark.parametrize("whose", ["the creator's", "ours"])
def test_nobody_is_added_under_an_address_that_mail_is_sent_from_or_answered_at(
    creator: Creator, settings: LazySettings, now: datetime, whose: str
) -> None:
    settings.MAIL_FROM = "mail@files.example"
    address = {"the creator's": creator.reply_to.upper(), "ours": "Mail@files.example"}[whose]
    with pytest.raises(AddressRefused, match="needs another one"):
        add_contact(creator, address, "Loop", now=now)
    assert not Contact.objects.exists()

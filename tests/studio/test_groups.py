"""The pages of groups and their members."""

from collections.abc import Callable

import pytest
from django.test import Client
from pytest_django.asserts import assertRedirects

from groups.models import Contact, Creator, Group, Membership
from tests import factories
from tests.studio.conftest import fill_in, url


def test_a_creator_without_groups_is_shown_the_first_step(studio: Client) -> None:
    page = studio.get(url("groups"))
    assert "No groups yet" in page.content.decode()


def test_a_group_is_created_and_its_page_says_who_receives_what(studio: Client) -> None:
    asked = studio.get(url("create_group")).content.decode()
    assert "Nobody gains anything yet" in asked
    studio.post(url("create_group"), {"name": "Patrons", "kind": "patrons"})
    group = Group.objects.get()
    assert (group.name, group.kind, group.parent) == ("Patrons", "patrons", None)
    assert (
        "whoever is in this group itself receives everything"
        in studio.get(url("group", group.pk)).content.decode()
    )


def test_a_sub_group_is_created_below_its_group(studio: Client, patrons: Group) -> None:
    studio.post(url("create_group") + f"?parent={patrons.pk}", {"name": "Hobbyist"})
    assert patrons.sub_groups.get().name == "Hobbyist"


def test_a_second_group_of_one_name_is_refused_and_the_form_keeps_what_was_typed(
    studio: Client, patrons: Group
) -> None:
    page = studio.post(url("create_group"), {"name": "Patrons", "kind": "other"}).content.decode()
    assert "You have a group of that name already" in page
    assert 'value="Patrons"' in page
    assert Group.objects.count() == 1


@pytest.mark.parametrize("parent", ["0", "x", "99999999999999999999", "-1"])
def test_a_parent_that_is_none_of_theirs_is_not_found(studio: Client, parent: str) -> None:
    assert studio.get(url("create_group") + f"?parent={parent}").status_code == 404


def test_a_group_is_renamed(studio: Client, patrons: Group) -> None:
    assert "Nobody gains or loses" in studio.get(url("rename_group", patrons.pk)).content.decode()
    fill_in(studio, url("rename_group", patrons.pk), {"name": "Supporters"})
    patrons.refresh_from_db()
    assert patrons.name == "Supporters"


def test_archiving_names_what_ends_before_it_happens(
    studio: Client, patrons: Group, contact: Contact
) -> None:
    asked = studio.get(url("archive_group", patrons.pk)).content.decode()
    assert "1 person&#x27;s membership ends now" in asked
    assert Group.objects.live().count() == 2
    studio.post(url("archive_group", patrons.pk))
    assert not Group.objects.live().exists()
    assert "Archived groups" in studio.get(url("groups")).content.decode()


def test_adding_a_person_says_what_they_gain_and_needs_a_second_press(
    studio: Client, hobbyist: Group
) -> None:
    typed = {"address": "Ana <ana@example.org>", "name": "Ana"}
    asked = studio.post(url("add_member", hobbyist.pk), typed).content.decode()
    assert "Adding Ana to Patrons · Hobbyist gives them nothing at once." in asked
    assert "every release to Patrons · Hobbyist or Patrons" in asked or "every release to" in asked
    assert not Membership.objects.exists()
    studio.post(url("add_member", hobbyist.pk), {**typed, "confirmed": "yes"})
    assert Membership.objects.get().contact.address_key == "ana@example.org"


def test_adding_somebody_from_another_tier_says_so_and_moves_them(
    studio: Client, contact: Contact, hobbyist: Group, collector: Group
) -> None:
    typed = {"address": contact.address_key, "name": ""}
    asked = studio.post(url("add_member", collector.pk), typed).content.decode()
    assert "They leave Patrons · Hobbyist" in asked
    studio.post(url("add_member", collector.pk), {**typed, "confirmed": "yes"})
    assert not collector.memberships.exists()
    studio.post(url("add_member", collector.pk), {**typed, "confirmed": "yes", "move": "yes"})
    assert collector.memberships.get().contact == contact


@pytest.mark.parametrize("address", ["", "nobody", "a@localhost", "a@b.example;c@d.example"])
def test_a_person_without_a_usable_address_is_not_added(
    studio: Client, hobbyist: Group, address: str
) -> None:
    page = studio.post(url("add_member", hobbyist.pk), {"address": address, "confirmed": "yes"})
    assert "errorlist" in page.content.decode()
    assert not Contact.objects.exists()


def test_a_name_with_a_line_break_is_refused(studio: Client, hobbyist: Group) -> None:
    typed = {"address": "a@example.org", "name": "Ana\r\nBcc: x@example.org", "confirmed": "yes"}
    assert "line break" in studio.post(url("add_member", hobbyist.pk), typed).content.decode()
    assert not Contact.objects.exists()


def test_ending_a_membership_names_what_is_lost_and_can_be_taken_back(
    studio: Client, contact: Contact, hobbyist: Group
) -> None:
    membership = hobbyist.memberships.get()
    assert "receives no further releases" in studio.get(url("end_membership", membership.pk)).content.decode()
    assert hobbyist.memberships.get().ended_at is None
    after = studio.post(url("end_membership", membership.pk), follow=True).content.decode()
    assert "Undo" in after
    assert hobbyist.memberships.get().ended_at is not None
    studio.post(url("start_again", membership.pk))
    assert hobbyist.memberships.filter(ended_at=None).get().contact == contact


def test_start_again_is_not_done_by_a_link(studio: Client, contact: Contact, hobbyist: Group) -> None:
    assertRedirects(studio.get(url("start_again", hobbyist.memberships.get().pk)), url("groups"))


def test_members_are_found_by_name_address_and_sub_group(
    studio: Client, patrons: Group, contact: Contact, collector: Group
) -> None:
    factories.MembershipFactory.create(
        group=collector,
        contact=factories.ContactFactory.create(
            creator=patrons.creator, name="Otto", address_key="o@x.example"
        ),
    )
    here = url("group", patrons.pk)
    assert "Otto" in studio.get(here).content.decode()
    assert "Mia Berg" not in studio.get(here, {"q": "OTTO"}).content.decode()
    assert "Otto" not in studio.get(here, {"q": "mia@"}).content.decode()
    assert "Mia Berg" not in studio.get(here, {"group": collector.pk}).content.decode()
    assert "Nobody found" in studio.get(here, {"ended": "yes"}).content.decode()
    assert studio.get(here, {"group": "x" * 50, "page": "-3", "left": 10**30}).status_code == 200


def test_lists_ask_the_same_for_one_and_for_three(
    creator: Creator, patrons: Group, hobbyist: Group, contact: Contact, queries_of: Callable[[str], int]
) -> None:
    groups, members = queries_of(url("groups")), queries_of(url("group", patrons.pk))
    for _number in range(2):
        group = factories.GroupFactory.create(creator=creator)
        factories.MembershipFactory.create(group=factories.GroupFactory.create(creator=creator, parent=group))
        factories.MembershipFactory.create(group=hobbyist)
    assert queries_of(url("groups")) == groups
    assert queries_of(url("group", patrons.pk)) == members

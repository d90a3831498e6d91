"""What waits becomes a person's own, once."""

from datetime import datetime, timedelta

import pytest
from allauth.account.models import EmailAddress
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from distribution import services
from distribution.models import Grant, Release
from groups.models import Contact, Group
from library.models import Holding, LibraryEntry
from tests import factories
from tests.distribution.conftest import Give, at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def ana_user(ana: Contact, grant: Grant) -> User:
    """Ana opens an account after it was given."""
    user: User = factories.UserFactory.create(email=ana.address_key, name="Ana")
    return user


def test_redeeming_puts_it_into_the_library_and_remembers_the_pair(
    grant: Grant, ana_user: User, now: datetime
) -> None:
    assert services.redeem_grant(grant, user=ana_user, now=now)
    grant.refresh_from_db()
    assert (grant.redeemed_at, grant.redeemed_by) == (now, ana_user)
    assert grant.contact.account == ana_user
    assert Holding.objects.get().entry.user == ana_user
    assert services.holds_release(ana_user, grant.release)


def test_twice_is_harmless(grant: Grant, ana_user: User, now: datetime) -> None:
    services.redeem_grant(grant, user=ana_user, now=now)
    assert not services.redeem_grant(grant, user=ana_user, now=now + timedelta(days=1))
    grant.refresh_from_db()
    assert grant.redeemed_at == now
    assert Holding.objects.count() == 1


def test_who_held_it_from_the_start_has_nothing_to_redeem(
    give: Give, contact: Contact, member: User, now: datetime
) -> None:
    give()
    grant = Grant.objects.get()
    assert not services.redeem_grant(grant, user=member, now=now)
    grant.refresh_from_db()
    assert grant.redeemed_at is None


def untouched(grant: Grant) -> bool:
    grant.refresh_from_db()
    grant.contact.refresh_from_db()
    return grant.redeemed_at is None and grant.contact.account is None and not LibraryEntry.objects.exists()


def test_somebody_else_is_told_the_mailed_address_masked(grant: Grant, stranger: User, now: datetime) -> None:
    with pytest.raises(services.SentToAnother, match=r"a•••@e•••\.org"):
        services.redeem_grant(grant, user=stranger, now=now)
    assert untouched(grant)


def test_an_address_that_is_only_claimed_redeems_nothing(grant: Grant, stranger: User, now: datetime) -> None:
    EmailAddress.objects.create(user=stranger, email="ana@example.org", verified=False)
    with pytest.raises(services.SentToAnother):
        services.redeem_grant(grant, user=stranger, now=now)
    assert untouched(grant)


def test_what_another_redeemed_stays_with_them(
    grant: Grant, ana_user: User, stranger: User, now: datetime
) -> None:
    services.redeem_grant(grant, user=ana_user, now=now)
    with pytest.raises(services.HeldByAnother):
        services.redeem_grant(grant, user=stranger, now=now)
    grant.refresh_from_db()
    assert grant.redeemed_by == ana_user
    assert not services.holds_release(stranger, grant.release)


def test_who_verified_the_mailed_address_comes_before_a_remembered_account_that_does_not_hold_it(
    grant: Grant, ana_user: User, stranger: User, now: datetime
) -> None:
    Contact.objects.filter(pk=grant.contact_id).update(account=stranger)
    assert services.redeem_grant(grant, user=ana_user, now=now)
    grant.refresh_from_db()
    assert grant.contact.account == ana_user


def test_a_remembered_account_redeems_though_the_address_changed(
    grant: Grant, member: User, now: datetime
) -> None:
    Contact.objects.filter(pk=grant.contact_id).update(account=member, address_key="new@example.org")
    assert services.redeem_grant(grant, user=member, now=now)


def test_all_else_that_waits_for_the_contact_comes_along(
    grant: Grant, give: Give, ana: Contact, ana_user: User, hobbyist: Group, now: datetime
) -> None:
    bundle = factories.BundleFactory.create(creator=hobbyist.creator)
    other = factories.ReleaseFactory.create(creator=hobbyist.creator, bundles=[bundle], groups=[hobbyist])
    give_to_nobody_yet = Contact.objects.filter(pk=ana.pk)
    EmailAddress.objects.filter(user=ana_user).update(verified=False)
    give(other)
    EmailAddress.objects.filter(user=ana_user).update(verified=True)
    assert give_to_nobody_yet.get().account is None
    services.redeem_grant(grant, user=ana_user, now=now)
    assert services.holds_release(ana_user, other)
    assert Grant.objects.filter(redeemed_by=ana_user).count() == 2


def test_an_account_that_is_gone_lets_its_owner_redeem_again(
    grant: Grant, ana_user: User, ana: Contact, now: datetime
) -> None:
    services.redeem_grant(grant, user=ana_user, now=now)
    ana_user.delete()
    again = factories.UserFactory.create(email=ana.address_key)
    assert not services.redeem_grant(grant, user=again, now=now)
    assert services.holds_release(again, grant.release)


def test_signing_in_settles_what_waits_with_every_creator(
    grant: Grant, give: Give, ana_user: User, owner: User, now: datetime
) -> None:
    elsewhere = factories.GroupFactory.create()
    contact = factories.ContactFactory.create(creator=elsewhere.creator, address_key=ana_user.email)
    factories.MembershipFactory.create(group=elsewhere, contact=contact)
    EmailAddress.objects.update(verified=False)
    bundles = factories.BundleFactory.create_batch(2, creator=elsewhere.creator)
    other = give(
        factories.ReleaseFactory.create(creator=elsewhere.creator, bundles=bundles, groups=[elsewhere])
    )
    EmailAddress.objects.update(verified=True)
    assert services.settle_waiting(ana_user, now=now) == 2
    assert services.settle_waiting(ana_user, now=now) == 0
    assert set(ana_user.contacts.all()) == {grant.contact, contact}
    assert LibraryEntry.objects.filter(user=ana_user).count() == 3
    assert set(Grant.objects.values_list("redeemed_at", "redeemed_by")) == {(now, ana_user.pk)}
    assert services.holds_release(ana_user, other)


def test_settling_leaves_alone_what_is_not_theirs(
    grant: Grant, contact: Contact, stranger: User, member: User, now: datetime
) -> None:
    EmailAddress.objects.create(user=stranger, email=grant.contact.address_key, verified=False)
    assert services.settle_waiting(stranger, now=now) == 0
    assert services.settle_waiting(member, now=now) == 0
    assert untouched(grant)


def test_settling_does_not_count_what_was_held_from_the_start_as_redeemed(
    give: Give, contact: Contact, member: User, now: datetime
) -> None:
    give()
    assert services.settle_waiting(member, now=now) == 0
    assert Grant.objects.get().redeemed_at is None


def test_a_second_address_of_one_person_is_redeemed_too_and_held_once(
    give: Give, contact: Contact, ana: Contact, member: User, now: datetime
) -> None:
    give()
    EmailAddress.objects.create(user=member, email=ana.address_key, verified=True)
    assert services.settle_waiting(member, now=now) == 1
    assert Grant.objects.get(contact=ana).redeemed_by == member
    assert Holding.objects.count() == 1


def test_an_account_a_later_import_found_is_settled_at_the_next_sign_in(
    grant: Grant, member: User, now: datetime
) -> None:
    Contact.objects.filter(pk=grant.contact_id).update(account=member)
    assert services.settle_waiting(member, now=now) == 1
    assert services.holds_release(member, grant.release)


def test_signing_in_when_nothing_waits_costs_little(grant: Grant, member: User, now: datetime) -> None:
    factories.ContactFactory.create_batch(3, account=member)
    with CaptureQueriesContext(connection) as queries:
        services.settle_waiting(member, now=now)
    assert len(queries) == 5, "two of them a savepoint"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_fifty_presses_at_once_redeem_once(grant: Grant, ana_user: User, now: datetime) -> None:
    outcomes = at_once(50, lambda _number: services.redeem_grant(grant, user=ana_user, now=now))
    assert outcomes.count(True) == 1
    assert Holding.objects.count() == LibraryEntry.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_people_with_a_claim_press_at_once_and_one_has_it(
    grant: Grant, ana_user: User, member: User, now: datetime
) -> None:
    """The account remembered with the contact, and whoever verified its address meanwhile."""
    Contact.objects.filter(pk=grant.contact_id).update(account=member)

    def press(number: int) -> bool:
        try:
            return services.redeem_grant(grant, user=(ana_user, member)[number % 2], now=now)
        except (services.HeldByAnother, services.SentToAnother):
            return False

    assert at_once(8, press).count(True) == 1
    assert Holding.objects.count() == 1
    grant.refresh_from_db()
    assert Holding.objects.get().entry.user == grant.redeemed_by == grant.contact.account


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_signing_in_twice_at_once_settles_once(grant: Grant, ana_user: User, now: datetime) -> None:
    assert sum(at_once(8, lambda _number: services.settle_waiting(ana_user, now=now))) == 1
    assert Holding.objects.count() == 1
    assert Release.objects.get().held == 0

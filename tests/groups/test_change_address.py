"""A person known by one address is written to at another."""

from datetime import datetime, timedelta

import pytest
from django.db import transaction

from accounts.addresses import AddressRefused
from accounts.models import AuditEvent, Letter, Suppression, User
from groups import services
from groups.models import Contact, Creator, OutsideId
from tests import factories
from tests.distribution.conftest import at_once


def change(contact: Contact, address: str, owner: User, now: datetime) -> bool:
    return services.change_address(contact, address, by=owner, now=now)


def test_the_new_address_is_theirs_and_everything_else_stays(
    contact: Contact, member: User, owner: User, now: datetime
) -> None:
    OutsideId.objects.create(creator=contact.creator, contact=contact, source="patreon", value="42")
    assert change(contact, "  Mia@Berg.Example ", owner, now)
    fresh = Contact.objects.get(pk=contact.pk)
    assert (fresh.address_key, fresh.account, fresh.outside_ids.get().value) == (
        "mia@berg.example",
        member,
        "42",
    )
    assert AuditEvent.objects.get(verb="changed address").actor == owner
    assert not Letter.objects.exists()


def test_changing_it_twice_changes_nothing(contact: Contact, owner: User, now: datetime) -> None:
    change(contact, "mia@berg.example", owner, now)
    assert not change(contact, "MIA@berg.example", owner, now + timedelta(days=1))
    assert AuditEvent.objects.filter(verb="changed address").count() == 1


def test_who_has_verified_the_new_address_beats_the_remembered_account_which_is_told(
    contact: Contact, member: User, owner: User, now: datetime
) -> None:
    other = factories.UserFactory.create(email="mia@berg.example")
    change(contact, "mia@berg.example", owner, now)
    contact.refresh_from_db()
    assert contact.account == other
    letter = Letter.objects.get()
    assert letter.address_key == member.email
    assert "Ana's Forge" in letter.subject


@pytest.mark.parametrize(
    ("address", "refused", "words"),
    [
        ("nonsense", AddressRefused, "no @"),
        ("hello@anas-forge.example", AddressRefused, "another one"),
        ("taken@example.org", services.AddressTaken, "Paul has this address already"),
        ("gone@example.org", services.AddressSuppressed, "came back"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    contact: Contact,
    creator: Creator,
    owner: User,
    now: datetime,
    address: str,
    refused: type[Exception],
    words: str,
) -> None:
    factories.ContactFactory.create(creator=creator, address_key="taken@example.org", name="Paul")
    Suppression.objects.create(
        address_key="gone@example.org", reason="bounce", created_at=now, creator_id=creator.pk
    )
    with pytest.raises(refused, match=words), transaction.atomic():
        change(contact, address, owner, now)
    assert Contact.objects.get(pk=contact.pk).address_key == "mia@example.org"
    assert not AuditEvent.objects.exists()


def test_nobody_learns_that_somebody_elses_mail_to_an_address_was_stopped(
    contact: Contact, owner: User, now: datetime
) -> None:
    Suppression.objects.create(address_key="gone@example.org", reason="complaint", created_at=now)
    assert change(contact, "gone@example.org", owner, now)


def test_another_creators_contact_does_not_stand_in_the_way(
    contact: Contact, owner: User, now: datetime
) -> None:
    factories.ContactFactory.create(creator=factories.CreatorFactory.create(), address_key="m@x.example")
    assert change(contact, "m@x.example", owner, now)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_who_want_one_address_at_once_and_one_has_it(
    creator: Creator, owner: User, now: datetime
) -> None:
    contacts = factories.ContactFactory.create_batch(6, creator=creator)

    def wish(number: int) -> bool:
        try:
            return change(contacts[number], "one@example.org", owner, now)
        except services.AddressTaken:
            return False

    assert sorted(at_once(6, wish)) == [False] * 5 + [True]
    assert Contact.objects.filter(address_key="one@example.org").count() == 1

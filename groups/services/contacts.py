"""People as a creator knows them, and the accounts that are theirs."""

from datetime import datetime
from email.utils import parseaddr

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.utils.translation import gettext as _

from accounts.addresses import AddressRefused, address_key
from accounts.models import Suppression, User
from accounts.services import post_letter, record
from groups.imports.values import read_name
from groups.models import Contact, Creator
from groups.rights import Right
from groups.services.staff import require_right


class AddressSuppressed(ValueError):
    """This address must not be written to."""


class AddressTaken(ValueError):
    """Another contact of this creator has the address."""

    def __init__(self, other: Contact) -> None:
        self.other = other
        super().__init__(
            _("%(person)s has this address already. If that is the same person, take one of the two out.")
            % {"person": other}
        )


def add_contact(creator: Creator, address: str, name: str, *, now: datetime) -> Contact:
    """The contact of `creator` with this address; if somebody's account has verified it, theirs is attached.

    Twice: the contact that is there, its name filled in if it had none.
    Raises `AddressRefused`, also for an address of ours or the creator's own: mail to it would answer itself. And
    `ValueRefused` for a name with a line break.
    """
    key, clean = address_key(address), read_name(name).text
    if key in own_addresses(creator):
        raise AddressRefused(
            _("Mail is sent from this address or answered at it; a member needs another one.")
        )
    with transaction.atomic():
        contact, created = Contact.objects.get_or_create(
            creator=creator, address_key=key, defaults={"name": clean, "created_at": now}
        )
        if not created and clean and not contact.name:
            contact.name = clean
            contact.save(update_fields=["name"])
        attach_verified_accounts(Contact.objects.filter(pk=contact.pk))
    contact.refresh_from_db(fields=["account"])
    return contact


def change_address(contact: Contact, address: str, *, by: User, now: datetime) -> bool:
    """`contact` is written to at `address` from now on; outside ids, memberships and grants stay theirs. Logged.

    A remembered account stays theirs too (it is the same person), unless somebody's account has verified the new
    address: that one is theirs then, and the one before is told. Returns whether anything changed; twice: False.
    Raises `AddressRefused`, `AddressSuppressed` and `AddressTaken`; then nothing has changed.
    """
    require_right(by, Right.PREPARE, creator_id=contact.creator_id)
    key = address_key(address)
    if key in own_addresses(contact.creator):
        raise AddressRefused(
            _("Mail is sent from this address or answered at it; a member needs another one.")
        )
    # Of their own mail only: what became of somebody else's mail to it is nobody else's business.
    if Suppression.objects.live().filter(address_key=key, creator_id=contact.creator_id).exists():
        raise AddressSuppressed(
            _(
                "Your mail to this address came back before, or its owner wants none. Ask them for another one."
            )
        )
    with transaction.atomic():
        before = Contact.objects.select_for_update(no_key=True, of=("self",)).select_related("account")
        known = before.get(pk=contact.pk)
        if known.address_key == key:
            return False
        try:
            with transaction.atomic():
                Contact.objects.filter(pk=contact.pk).update(address_key=key)
        except IntegrityError:
            other = Contact.objects.get(creator=contact.creator_id, address_key=key)
            raise AddressTaken(other) from None
        attach_verified_accounts(Contact.objects.filter(pk=contact.pk))
        contact.refresh_from_db()
        record(by, "changed address", f"contact {contact.pk}", creator_id=contact.creator_id, now=now)
        if known.account and known.account != contact.account:
            _tell_who_it_was(known.account, contact, now)
    return True


def _tell_who_it_was(account: User, contact: Contact, now: datetime) -> None:
    creator = contact.creator.name
    post_letter(
        "pair ended",
        account.email,
        subject=_("%(creator)s gives to another account now") % {"creator": creator},
        text=_(
            "%(creator)s changed the address of a member whose gifts came to your library. The new address belongs to"
            " another account, so what is given from now on goes there.\n\nWhat you were given stays in your library."
            " If this is a mistake, write to %(reply_to)s."
        )
        % {"creator": creator, "reply_to": contact.creator.reply_to},
        dedupe_key=f"pair ended {contact.pk} {account.pk} {now.isoformat()}",
        now=now,
    )


def own_addresses(creator: Creator) -> frozenset[str]:
    """The addresses that nobody here is written to at: the one mail is sent from, and where the creator reads answers."""
    return frozenset({parseaddr(settings.MAIL_FROM)[1].lower(), creator.reply_to.lower()})


def attach_account(contacts: QuerySet[Contact], user: User) -> int:
    """`contacts` are `user`'s: what they are given from now on lands in that library. Returns how many are new to it.

    Twice: 0. A contact that was somebody else's becomes this user's (the caller has seen the proof).
    """
    return contacts.exclude(account__isnull=False, account=user).update(account=user)


def attach_verified_accounts(contacts: QuerySet[Contact]) -> int:
    """Each of `contacts` whose present address an account has verified is that account's. Returns how many changed.

    A verified owner beats a remembered pair; a contact whose address nobody has verified keeps the account it has.
    Twice: 0. One statement, however many.
    """
    owner = EmailAddress.objects.filter(email=OuterRef("address_key"), verified=True).values("user_id")[:1]
    found = (
        contacts.annotate(owner_id=Subquery(owner)).exclude(owner_id=None).exclude(account_id=F("owner_id"))
    )
    return Contact.objects.filter(pk__in=found.values("pk")).update(account_id=Subquery(owner))

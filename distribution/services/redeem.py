"""What waits for a person becomes theirs, once."""

from datetime import datetime

from allauth.account.models import EmailAddress
from django.db import transaction
from django.db.models import CharField, Exists, F, OuterRef, Q, Value
from django.db.models.functions import Cast, Concat
from django.utils.translation import gettext as _

from accounts.addresses import masked
from accounts.models import User
from distribution.models import Grant, Release
from distribution.services.gifts import hand_over
from groups.models import Contact
from groups.services import attach_account
from library.models import Holding


class SentToAnother(Exception):
    """The mail went to an address that this person has not verified."""


class HeldByAnother(Exception):
    """It is in somebody else's library."""


def redeem_grant(grant: Grant, *, user: User, now: datetime) -> bool:
    """`user` holds what the grant gives, and its contact is theirs from now on. Returns whether this call redeemed it.

    Theirs to redeem: the account remembered with the contact, and whoever verified the mailed address. The contact
    is locked, so of many presses one redeems. Twice: False, nothing changes; so too for who held it from the start.
    Raises `SentToAnother`, `HeldByAnother`; then nothing has changed.
    """
    with transaction.atomic():
        contact = Contact.objects.select_for_update(no_key=True).get(pk=grant.contact_id)
        fresh = Grant.objects.select_related("release", "redeemed_by", "contact__account").get(pk=grant.pk)
        holder = holder_of(fresh)
        if holder == user:
            return False
        if holder:
            raise HeldByAnother(_("This is in another person's library."))
        verified = EmailAddress.objects.filter(user=user, email=contact.address_key, verified=True)
        if contact.account_id != user.pk and not verified.exists():
            raise SentToAnother(
                _("This was sent to %(address)s. Sign in with that address to have it.")
                % {"address": masked(contact.address_key)}
            )
        attach_account(Contact.objects.filter(pk=contact.pk), user)
        return bool(_redeem(fresh.release, [fresh.pk], user, now))


def settle_waiting(user: User, *, now: datetime) -> int:
    """Contacts of any creator with a verified address of `user` are theirs, and so is all that waited for them.

    Returns how many grants were redeemed. Twice: 0. What they hold already stays as it is.
    """
    addresses = EmailAddress.objects.filter(user=user, verified=True).values("email")
    newly = list(Contact.objects.filter(address_key__in=addresses, account=None).values_list("pk", flat=True))
    # Committed before the grants are read: a fan-out at the same moment either shows us its grants or, at its end,
    # sees whose the contacts are. In one transaction both could miss the other.
    attach_account(Contact.objects.filter(pk__in=newly, account=None), user)
    held = Holding.objects.filter(
        entry__user=user,
        origin_key=Concat(
            Value("release:"), Cast(OuterRef("release_id"), CharField()), output_field=CharField()
        ),
    )
    waiting: dict[int, list[int]] = {}
    for release_id, grant_id in (
        Grant.objects.filter(contact__account=user, redeemed_at=None)
        # A contact's grants lie under its creator's releases: with that, the unique pair serves as the index.
        .filter(release__creator=F("contact__creator"))
        .filter(Q(contact__in=newly) | ~Exists(held))
        .values_list("release_id", "pk")
    ):
        waiting.setdefault(release_id, []).append(grant_id)
    redeemed = 0
    for release in Release.objects.filter(pk__in=waiting):
        with transaction.atomic():
            redeemed += _redeem(release, waiting[release.pk], user, now)
    return redeemed


def holder_of(grant: Grant) -> User | None:
    """In whose library it is: who redeemed it, or the account that was known when it was given."""
    if grant.redeemed_by:
        return grant.redeemed_by
    account = grant.contact.account
    return account if account and holds_release(account, grant.release) else None


def holds_release(user: User, release: Release) -> bool:
    """Whether it is in `user`'s library now."""
    return Holding.objects.live().filter(entry__user=user, origin_key=release.origin_key).exists()


def _redeem(release: Release, grants: list[int], user: User, now: datetime) -> int:
    redeemed = Grant.objects.filter(pk__in=grants, redeemed_at=None).update(redeemed_at=now, redeemed_by=user)
    hand_over(release, User.objects.filter(pk=user.pk).values_list("pk", flat=True), now=now)
    return redeemed

"""What waits for a person becomes theirs, once."""

from datetime import datetime

from allauth.account.models import EmailAddress
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils.translation import gettext as _

from accounts.addresses import masked
from accounts.models import User
from distribution.models import Grant, Release
from distribution.services.gifts import Gift
from distribution.services.recall import TakenBack, still_given
from groups.models import Contact
from groups.services import attach_account
from library.models import Holding, LibraryEntry


class SentToAnother(Exception):
    """The mail went to an address that this person has not verified."""


class HeldByAnother(Exception):
    """It is in somebody else's library."""


def redeem_grant(grant: Grant, *, user: User, now: datetime) -> bool:
    """`user` holds what the grant gives; its contact is theirs, with all else that waits for it. Returns whether this
    call redeemed it.

    Theirs to redeem: the account remembered with the contact, and whoever verified the mailed address. The contact
    is locked, so of many presses one redeems. Twice: False, nothing changes; so too for who held it from the start.
    Raises `TakenBack`, `SentToAnother`, `HeldByAnother`; then nothing has changed.
    """
    with transaction.atomic():
        # Before the contact: a page being given holds its release and then attaches accounts to contacts.
        if not still_given(grant.release):
            raise TakenBack(_("This was recalled by its creator."))
        contact = Contact.objects.select_for_update(no_key=True).get(pk=grant.contact_id)
        fresh = Grant.objects.select_related("release", "redeemed_by", "contact__account").get(pk=grant.pk)
        if fresh.revoked_at:
            raise TakenBack(_("This was taken back by its creator."))
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
        attached = attach_account(Contact.objects.filter(pk=contact.pk), user)
        redeemed = bool(_redeem(fresh.release, [fresh.pk], user, now))
    if attached:
        _wait_for_pages(user)
        _redeem_waiting(user, [contact.pk], now)
    return redeemed


def settle_waiting(user: User, *, now: datetime) -> int:
    """Contacts of any creator with a verified address of `user` are theirs, and so is all that waited for them.

    Returns how many grants were redeemed. Twice: 0. What they hold already stays as it is.
    """
    addresses = list(EmailAddress.objects.filter(user=user, verified=True).values_list("email", flat=True))
    # Whose they are is asked of the few that were found: asked of the database, it would list all that are nobody's.
    theirs = Contact.objects.filter(address_key__in=addresses)
    with transaction.atomic():
        # Locked, so that these are ours alone: a page that attaches the same contact hands over by itself.
        locked = theirs.select_for_update(no_key=True).order_by("pk")
        newly = [pk for pk, account in locked.values_list("pk", "account") if account is None]
        attach_account(Contact.objects.filter(pk__in=newly), user)
    if newly:
        _wait_for_pages(user)
    return _redeem_waiting(user, newly, now)


def holder_of(grant: Grant) -> User | None:
    """In whose library it is: who redeemed it, or the account that was known when it was given."""
    if grant.redeemed_by:
        return grant.redeemed_by
    account = grant.contact.account
    return account if account and holds_release(account, grant.release) else None


def holds_release(user: User, release: Release) -> bool:
    """Whether it is in `user`'s library now."""
    return (
        LibraryEntry.objects.of(user)
        .by(Holding.objects.live().filter(origin_key=release.origin_key))
        .exists()
    )


def _wait_for_pages(user: User) -> None:
    """Pages being given to `user`'s contacts that had not seen the account are committed; later ones see it.

    A page holds its release's row from its first statement to its commit. So each grant is either there to be
    redeemed after this, or in the library by its page; without the wait both sides could miss the other.
    """
    given = Release.objects.under_lease().filter(creator__in=user.contacts.values("creator"))
    with transaction.atomic():
        list(given.select_for_update(no_key=True).order_by("pk").values_list("pk"))


def _redeem_waiting(user: User, newly: list[int], now: datetime) -> int:
    origin_key = Release.origin_key_of(OuterRef(OuterRef("release_id")))
    held = LibraryEntry.objects.of(user).by(Holding.objects.filter(origin_key=origin_key))
    waiting: dict[int, list[int]] = {}
    for release_id, grant_id in (
        Grant.objects.filter(contact__account=user, redeemed_at=None, revoked_at=None)
        # A contact's grants lie under its creator's releases: with that, the unique pair serves as the index.
        .filter(release__creator=F("contact__creator"))
        # What a contact just attached was given counts as redeemed, even if it came by another contact before.
        .filter(Q(contact__in=newly) | ~Exists(held))
        .values_list("release_id", "pk")
    ):
        waiting.setdefault(release_id, []).append(grant_id)
    redeemed = 0
    for release in Release.objects.filter(pk__in=waiting, recalled_at=None):
        with transaction.atomic():
            if still_given(release):
                redeemed += _redeem(release, waiting[release.pk], user, now)
    return redeemed


def _redeem(release: Release, grants: list[int], user: User, now: datetime) -> int:
    """`user` holds the `release`, which the caller holds still, unless all of the `grants` were revoked meanwhile."""
    valid = Grant.objects.filter(pk__in=grants, revoked_at=None)
    redeemed = valid.filter(redeemed_at=None).update(redeemed_at=now, redeemed_by=user)
    if redeemed or valid.exists():
        Gift.of(release).hand_over(User.objects.filter(pk=user.pk).values_list("pk", flat=True), now=now)
    return redeemed

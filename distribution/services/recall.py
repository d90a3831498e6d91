"""Taking back: a release from everybody, or one person's grant. What was downloaded stays with whoever has it."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import record
from distribution.models import Grant, Release
from distribution.services.releases import ReleaseRefused
from groups.models import Contact
from groups.rights import Right
from groups.services.staff import require_right
from library.services import end_holdings
from rows.clock import db_now
from rows.lease import end_lease, take_lease
from rows.locks import hold_still

PAGE = 10_000
LEASE_SECONDS = 30


class NotGiven(ReleaseRefused):
    """Nobody was given anything yet, so there is nothing to take back."""


class TakenBack(Exception):
    """What this would give was recalled, or revoked from this one person."""


class LeaseLost(Exception):
    """Another worker goes on with it."""


def recall_release(release: Release, *, because: str, by: User, now: datetime) -> bool:
    """Nobody gets `release` any more and nobody redeems it; it leaves the libraries, which say `because`.

    Granting stops before its next page: the epoch is raised. The first page of libraries is done when this returns,
    the rest by `take_back_release`. Returns whether this call recalled it; twice: False, nothing changes.
    Raises `NotGiven` for a draft and for what waits for its time: that is taken back to a draft.
    """
    require_right(by, Right.SEND, creator_id=release.creator_id)
    with transaction.atomic():
        # Here we wait for whoever redeems it now and for the page being given: what they wrote is then there to end.
        given = Release.objects.filter(
            pk=release.pk, recalled_at=None, state__in=[Release.State.GRANTING, Release.State.PUBLISHED]
        )
        changed = given.update(
            state=Release.State.RECALLING,
            recalled_at=now,
            recalled_because=because[:200],
            cursor=0,
            epoch=F("epoch") + 1,
            lease_until=None,
        )
        if changed:
            record(by, "recalled release", f"release {release.pk}", creator_id=release.creator_id, now=now)
    release.refresh_from_db()
    if not changed and release.recalled_at is None:
        raise NotGiven(_("Nobody was given this yet. Take it back to a draft instead."))
    if changed:
        take_back_release(release.pk, now=now, pages=1)
    return bool(changed)


def take_back_release(release_id: int, *, now: datetime, page: int = PAGE, pages: int | None = None) -> bool:
    """A recalled release is in nobody's library. Returns whether this call finished that.

    Pages of grants by contact, the cursor committed with each, under a lease; at the end whoever came by it another
    way than an account known now. With `pages` at most so many, and the rest is left. Twice: nothing changes.
    """
    release = Release.objects.being_taken_back().filter(pk=release_id).first()
    if release is None or take_lease(release, seconds=LEASE_SECONDS) is None:
        return False
    release.refresh_from_db(fields=["cursor", "recalled_at", "recalled_because"])
    moment = release.recalled_at or now
    done = 0
    try:
        while _end_page(release, moment, page):
            done += 1
            if done == pages:
                end_lease(release)
                return False
        with transaction.atomic():
            _ours(release, state=Release.State.RECALLED, lease_until=None)
            end_holdings(release.origin_key, reason=release.recalled_because, now=moment)
    except LeaseLost:
        return False
    return True


def revoke_grant(grant: Grant, *, by: User, now: datetime) -> bool:
    """`grant` gives nothing any more and its ticket says so; it has left the library of whoever had it by this grant.

    An account that another of the creator's contacts was granted the same release for keeps it by that one.
    Returns whether this call revoked it; twice: False, nothing changes.
    """
    require_right(by, Right.SEND, creator_id=grant.release.creator_id)
    with transaction.atomic():
        # Whoever redeems it holds the contact, too: they come before or after us.
        contact = Contact.objects.select_for_update(no_key=True).get(pk=grant.contact_id)
        if not Grant.objects.filter(pk=grant.pk, revoked_at=None).update(revoked_at=now):
            return False
        grant.refresh_from_db()
        holders = {user for user in (contact.account_id, grant.redeemed_by_id) if user}
        others = Grant.objects.filter(release=grant.release_id, revoked_at=None)
        holders -= set(others.filter(contact__account__in=holders).values_list("contact__account", flat=True))
        users = User.objects.filter(pk__in=holders).values_list("pk", flat=True)
        end_holdings(grant.release.origin_key, users=users, reason="", now=now)
        record(by, "revoked grant", f"grant {grant.pk}", creator_id=contact.creator_id, now=now)
    return True


def still_given(release: Release) -> bool:
    """Whether `release` is not recalled; if so nobody recalls it before this transaction ends."""
    return bool(hold_still(Release.objects.filter(pk=release.pk, recalled_at=None).values_list("pk")))


def _end_page(release: Release, moment: datetime, page: int) -> bool:
    """One page further; False when nobody is left."""
    grants = Grant.objects.filter(release=release, contact__gt=release.cursor).order_by("contact")
    found = list(grants.values_list("contact_id", "contact__account_id", "redeemed_by_id")[:page])
    if not found:
        return False
    users = {user for _contact, *both in found for user in both if user}
    end = found[-1][0]
    with transaction.atomic():
        _ours(release, cursor=end, lease_until=db_now() + timedelta(seconds=LEASE_SECONDS))
        known = User.objects.filter(pk__in=users).values_list("pk", flat=True)
        end_holdings(release.origin_key, users=known, reason=release.recalled_because, now=moment)
    release.cursor = end
    return True


def _ours(release: Release, **changes: object) -> None:
    """Changes the release, if the lease is still ours. Raises `LeaseLost`."""
    if not Release.objects.filter(pk=release.pk, epoch=release.epoch).update(**changes):
        raise LeaseLost

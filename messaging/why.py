"""Why a mail came: what its page says to whoever asks. Reads only."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from distribution.audience import reached_groups
from distribution.models import Release
from groups.imports.formats import FORMATS
from groups.models import Creator, Membership
from messaging.mail import also_of
from messaging.models import Delivery, Message, Preference, Report
from messaging.services.preferences import preference_of


@dataclass(frozen=True)
class Why:
    """One mail as its recipient may want it explained."""

    delivery: Delivery
    creator: Creator
    address: str
    # What it told of, the newest first.
    titles: list[str]
    # The membership it came by; none if it was erased.
    membership: Membership | None
    # How they came there.
    came_by: str
    choice: Preference.Choice
    reported: bool


def why_mailed(delivery: Delivery, *, now: datetime) -> Why:
    """How `delivery` came to its contact: by which membership, since when, and what they chose."""
    contact, release = delivery.contact, delivery.message.release
    membership = _membership(contact.pk, release, now)
    besides = also_of([delivery]).get(delivery.pk, [])
    own = [] if delivery.message.kind == Message.Kind.DIGEST else [str(release)]
    return Why(
        delivery=delivery,
        creator=contact.creator,
        # Behind one that stands for a doubled address there was no mail of its own.
        address=contact.address_key if delivery.address_key.startswith("#") else delivery.address_key,
        titles=own + [item.title for item in besides],
        membership=membership,
        came_by=_came_by(membership) if membership else "",
        choice=preference_of(contact),
        reported=Report.objects.filter(message=delivery.message, contact=contact).exists(),
    )


def _came_by(membership: Membership) -> str:
    creator, run = membership.contact.creator, membership.brought_by
    if run is None:
        return _("%(creator)s added you by hand.") % {"creator": creator}
    if FORMATS[run.format].source == "patreon":
        return _("%(creator)s took your address over from Patreon.") % {"creator": creator}
    return _("%(creator)s took your address over from a list.") % {"creator": creator}


def _membership(contact_id: int, release: Release, now: datetime) -> Membership | None:
    """Theirs in the groups that `release` reaches, or in any of its creator's: live before ended, the longest first."""
    theirs = Membership.objects.filter(contact=contact_id).select_related(
        "group__parent", "brought_by", "contact__creator"
    )
    theirs = theirs.order_by("started_at", "pk")
    within = theirs.filter(group__in=reached_groups(release))
    for found in (within.live(now), within, theirs.live(now), theirs):
        if first := found.first():
            return first
    return None

"""Who is mailed, who is not and why: the one definition, for the dry run and for planning alike (R3)."""

from datetime import datetime
from typing import Any

from django.db.models import Case, Exists, OuterRef, Q, QuerySet, Value, When

from accounts.models import Suppression
from distribution.models import Release
from groups.models import Contact, Creator
from library.services import holds_all
from messaging.contents import versions_of
from messaging.models import Delivery, Message, Preference
from messaging.recipient_cap import capped

STATE_OF_REASON = Case(
    When(reason=Delivery.Reason.SUPPRESSED, then=Value(Delivery.State.SUPPRESSED)),
    When(reason__in=[Delivery.Reason.WEEKLY, Delivery.Reason.CAP], then=Value(Delivery.State.HELD)),
    default=Value(Delivery.State.SKIPPED),
)

# The reasons, none being one, of those who are mailed: now or in the digest.
TOLD_SOMETIME = ["", Delivery.Reason.WEEKLY, Delivery.Reason.CAP]


def with_outcome(
    people: QuerySet[Any, Any],
    release: Release,
    *,
    before: datetime | None = None,
    contact: str = "",
    account: str = "",
    capped_at: datetime | None = None,
    kind: str = Message.Kind.ANNOUNCEMENT,
) -> QuerySet[Any, Any]:
    """`people` with the `reason` for which a delivery of `release` to each of them is not sent; empty, it is.

    The dry run groups this and planning inserts it: they cannot disagree. `contact` is the way from a row to its
    contact (`contact__`), `account` to whose library counts, if it is not the contact's own. What came into a library
    from `before` on does not count as held already: this release is among it. `capped_at` is when the mails would go,
    for the dry run: only opening a chunk charges the caps. By `kind`: a reminder and a digest also tell of what
    somebody holds, a digest is for those who asked for it.
    """
    address, person, account = f"{contact}address_key", f"{contact}pk", account or f"{contact}account_id"
    suppressed = Exists(Suppression.objects.live().filter(address_key=OuterRef(address)))
    no_mail = wants_none(person, release.creator)
    held = holds_all(versions_of(release), account, before=before)
    weekly = Exists(wanting_weekly(release.creator).filter(contact=OuterRef(person)))
    reason = Delivery.Reason
    cases = [
        When(suppressed, then=Value(reason.SUPPRESSED)),
        When(no_mail, then=Value(reason.NO_MAIL)),
    ]
    if kind == Message.Kind.ANNOUNCEMENT:
        cases.append(When(held, then=Value(reason.HOLDS_ALL)))
    if kind != Message.Kind.DIGEST:
        cases.append(When(weekly, then=Value(reason.WEEKLY)))
    if capped_at:
        cases.append(When(capped(address, release.creator_id, capped_at), then=Value(reason.CAP)))
    found: QuerySet[Any, Any] = people.annotate(reason=Case(*cases, default=Value("")))
    return found


def wants_none(person: str, creator: Creator) -> Q:
    """Whether the contact at the end of the way `person`, one of `creator`'s, asked for no mail.

    They said so here; or they said nothing here, and a list that was imported says so.
    """
    chosen = Preference.objects.filter(creator=creator, contact=OuterRef("pk"))
    silent = Contact.objects.filter(~Exists(chosen), creator=creator, opted_out_at__isnull=False)
    none = Preference.objects.filter(creator=creator, choice=Preference.Choice.NOTHING)
    return Q(Exists(none.filter(contact=OuterRef(person)))) | Q(Exists(silent.filter(pk=OuterRef(person))))


def wanting_weekly(creator: Creator) -> QuerySet[Preference]:
    """Who asked for one mail a week from `creator`."""
    return Preference.objects.filter(creator=creator, choice=Preference.Choice.WEEKLY)

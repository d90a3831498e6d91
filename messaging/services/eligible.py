"""Whom a message may still be written to, however long ago it was planned: the one definition.

Asked three times. When a chunk is opened, and every few seconds while it is sent, whoever may not be written to any
more is out, with the reason. The chained commit asks again for each mail, in its own words (`chain._STATEMENT`): from
the moment on at which a change was answered no mail begins its way against it. A call that is made again asks too.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from accounts.models import Suppression
from distribution.audience import reached_groups
from distribution.models import Grant
from groups.models import Contact, Group, Membership
from messaging.models import Chunk, Delivery, Message, Preference
from messaging.services.outcome import wanting_weekly, wants_none

# Whoever ended a membership may have a clock that is ahead of the worker's.
CLOCKS_APART = timedelta(seconds=5)


class Told(NamedTuple):
    """To whom a message speaks: members of one of `groups`; if it is a reminder, those who have not redeemed."""

    groups: Sequence[int]
    kind: str = Message.Kind.ANNOUNCEMENT


NOBODY = Told([])


def told_by(message: Message) -> Told:
    """A digest tells all who are the creator's people still; anything else those who belong where it was released."""
    if message.kind == Message.Kind.DIGEST:
        groups = Group.objects.filter(creator=message.release.creator_id)
        return Told(list(groups.values_list("pk", flat=True)), message.kind)
    return Told(reached_groups(message.release), message.kind)


def address_now() -> Subquery:
    """The present address of a delivery's person. By the key of each, whatever the statistics say of them all."""
    return Subquery(Contact.objects.filter(pk=OuterRef("contact_id")).values("address_key"))


def moved(deliveries: QuerySet[Delivery]) -> QuerySet[Delivery]:
    """Those of `deliveries` whose person has another address by now; it is in `now_at`."""
    return deliveries.annotate(now_at=address_now()).exclude(address_key=F("now_at"))


def may_go(told: Told, now: datetime) -> Q:
    """The deliveries that may be written to. The chained commit says the same in SQL of its own."""
    granted = Grant.objects.filter(pk=OuterRef("grant"), revoked_at=None)
    if told.kind == Message.Kind.REMINDER:
        granted = granted.filter(redeemed_at=None)
    suppressed = Suppression.objects.live().filter(address_key=OuterRef("address_key"))
    no_mail = Preference.objects.filter(contact=OuterRef("contact"), choice=Preference.Choice.NOTHING)
    chosen = Preference.objects.filter(contact=OuterRef("pk"))
    opted_out = Contact.objects.filter(~Exists(chosen), pk=OuterRef("contact"), opted_out_at__isnull=False)
    return (
        Q(address_key=address_now())
        & Exists(belonging(told, now))
        & Exists(granted)
        & ~Exists(suppressed)
        & ~Exists(no_mail)
        & ~Q(Exists(opted_out))
    )


def belonging(told: Told, now: datetime) -> QuerySet[Membership]:
    """The memberships by which the outer delivery's person is told."""
    soon = now + CLOCKS_APART
    return Membership.objects.live(soon).filter(group__in=told.groups, contact=OuterRef("contact"))


def drop_the_unwilling(chunk: Chunk, now: datetime) -> None:
    """Whoever must not be written to any more, asked not to be, has left or holds nothing by it any more, is out."""
    state, reason = Delivery.State, Delivery.Reason
    creator, told = chunk.message.release.creator, told_by(chunk.message)
    planned = Delivery.objects.of(chunk).filter(state=state.PLANNED)
    suppressed = Suppression.objects.live().filter(address_key=OuterRef("address_key"))
    planned.filter(Exists(suppressed)).update(state=state.SUPPRESSED, reason=reason.SUPPRESSED)
    planned.filter(wants_none("contact", creator)).update(state=state.SKIPPED, reason=reason.NO_MAIL)
    if told.kind == Message.Kind.REMINDER:
        redeemed = Grant.objects.filter(pk=OuterRef("grant"), redeemed_at__isnull=False)
        planned.filter(Exists(redeemed)).update(state=state.SKIPPED, reason=reason.REDEEMED)
    revoked = Grant.objects.filter(pk=OuterRef("grant"), revoked_at__isnull=False)
    planned.filter(Exists(revoked)).update(state=state.CANCELLED, reason=reason.REVOKED)
    if told.kind != Message.Kind.DIGEST:
        weekly = wanting_weekly(creator).filter(contact=OuterRef("contact"))
        planned.filter(Exists(weekly)).update(state=state.HELD, reason=reason.WEEKLY)
    left = ~Exists(belonging(told, now))
    planned.filter(left).update(state=state.CANCELLED, reason=reason.LEFT)

"""The breakers (M7): a message that people complain about, or that goes to addresses which do not exist, stops its
creator until an admin has looked."""

from datetime import datetime
from fractions import Fraction
from functools import reduce
from operator import add

from django.db import transaction
from django.db.models import F, IntegerField, Q, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from accounts.services import alarm
from groups.services import pause_creator
from messaging.models import Delivery, Message

# Of the mails that were offered: what mail systems themselves begin to block at.
COMPLAINTS = Fraction(1, 1000)
BOUNCES = Fraction(5, 100)
# Fewer say nothing about a list: one angry person among twelve is no campaign.
FEWEST_COMPLAINTS = 3
FEWEST_BOUNCES = 5

OFFERED = [
    Delivery.State.SENDING,
    Delivery.State.ACCEPTED,
    Delivery.State.DELIVERED,
    Delivery.State.BOUNCED,
    Delivery.State.COMPLAINED,
    Delivery.State.FAILED,
    Delivery.State.UNKNOWN,
]

# Of one chunk, by its own count.
_OFFERED_IN = reduce(add, (Coalesce(Cast(KT(f"tally__{state}"), IntegerField()), 0) for state in OFFERED))


def count_bounce(message_id: int, number: int, *, now: datetime) -> bool:
    """`number` more mails of the message came back for good. Returns whether that stopped its creator.

    Twice: counted twice; whoever calls knows that each delivery comes back once.
    """
    Message.objects.filter(pk=message_id).update(bounced=F("bounced") + number)
    return check(Message.objects.get(pk=message_id), now=now)


def count_complaint(message_id: int, number: int, *, now: datetime) -> bool:
    """`number` more people complained about the message. Returns whether that stopped its creator. As `count_bounce`."""
    Message.objects.filter(pk=message_id).update(complained=F("complained") + number)
    return check(Message.objects.get(pk=message_id), now=now)


def check(message: Message, *, now: datetime) -> bool:
    """Whether this call stopped the creator over `message`: paused with the reason, logged, an operator alarmed.

    Once a message: an admin who resumed the creator has seen it, and it does not stop them again. Whoever is paused
    already stays so for the reason they were told.
    """
    complained, bounced = Message.objects.values_list("complained", "bounced").get(pk=message.pk)
    if complained < FEWEST_COMPLAINTS and bounced < FEWEST_BOUNCES:
        return False
    offered = max(_offered(message), complained, bounced)
    because = _why(message, complained=complained, bounced=bounced, offered=offered)
    if not because:
        return False
    with transaction.atomic():
        # Of several who notice at once, one stops it.
        if not Message.objects.filter(pk=message.pk, tripped_at=None).update(tripped_at=now):
            return False
        creator = message.release.creator
        pause_creator(creator, because, by=None, now=now)
        alarm(
            _("%(creator)s was paused") % {"creator": creator.name},
            because,
            dedupe_key=f"breaker:{message.pk}",
            now=now,
        )
    return True


def _offered(message: Message) -> int:
    """How many mails of `message` were offered, in two queries; the few chunks in work are counted anew."""
    counted = message.chunks.filter(lease_until=None).order_by()
    number: int = counted.aggregate(all=Coalesce(Sum(_OFFERED_IN), 0))["all"]
    in_work = Q(pk__in=[])
    for after, until in message.chunks.filter(lease_until__isnull=False).values_list("after", "until"):
        in_work |= Q(contact__gt=after, contact__lte=until)
    return number + Delivery.objects.filter(in_work, message=message, state__in=OFFERED).count()


def _why(message: Message, *, complained: int, bounced: int, offered: int) -> str:
    """Which breaker trips, in words; empty if none."""
    values = {"message": str(message)[:120], "offered": number_format(offered, force_grouping=True)}
    if complained >= FEWEST_COMPLAINTS and complained >= COMPLAINTS * offered:
        return _("%(number)s of the %(offered)s people who were sent “%(message)s” reported it as spam.") % {
            **values,
            "number": number_format(complained, force_grouping=True),
        }
    if bounced >= FEWEST_BOUNCES and bounced >= BOUNCES * offered:
        return _(
            "%(number)s of %(offered)s mails of “%(message)s” came back: those addresses do not exist."
        ) % {
            **values,
            "number": number_format(bounced, force_grouping=True),
        }
    return ""

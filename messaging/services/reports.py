"""A member says that a message should not have come."""

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.services import alarm
from messaging import breakers
from messaging.models import Delivery, Preference, Report
from messaging.services.preferences import set_preference
from messaging.services.tallies import recount

# What may still turn out to be a complaint; counted once, whoever says it first: the member here or their provider.
RECEIVED = [Delivery.State.ACCEPTED, Delivery.State.DELIVERED, Delivery.State.UNKNOWN]


def report_message(delivery: Delivery, *, words: str, now: datetime) -> bool:
    """The people who run this site know, it counts as a complaint, and the creator writes to this member no more.

    Once a member and message. Returns whether this call reported it; twice: False, the first words stand.
    """
    with transaction.atomic():
        _row, created = Report.objects.get_or_create(
            message_id=delivery.message_id,
            contact_id=delivery.contact_id,
            defaults={"words": words, "at": now},
        )
        if not created:
            return False
        received = Delivery.objects.filter(pk=delivery.pk, state__in=RECEIVED)
        complained = received.update(state=Delivery.State.COMPLAINED)
    set_preference(delivery.contact, Preference.Choice.NOTHING, now=now)
    recount(delivery.message_id, [delivery.contact_id])
    breakers.count_complaint(delivery.message_id, complained, now=now)
    _tell_admins(delivery, now)
    return True


def _tell_admins(delivery: Delivery, now: datetime) -> None:
    """One letter a message; the reports themselves stand in the admin."""
    where = reverse("admin:messaging_report_changelist")
    alarm(
        _("A message was reported"),
        _("A member of %(creator)s says that “%(message)s” should not have come.\n\n%(url)s")
        % {
            "creator": delivery.message.release.creator,
            "message": delivery.message,
            "url": f"{settings.SITE_URL}{where}?message={delivery.message_id}",
        },
        dedupe_key=f"report:{delivery.message_id}",
        now=now,
    )

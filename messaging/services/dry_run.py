"""The dry run (R3): what would happen to whom, counted from the rows that planning would insert."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Count
from django.utils.translation import gettext as _

from distribution.audience import audience
from messaging import throttle
from messaging.models import Delivery, Message
from messaging.services.confirm import refusals
from messaging.services.plan import audience_groups, with_outcome
from messaging.throttle import Verdict


@dataclass(frozen=True)
class Outlook:
    """Everyone who is granted, once each, by what happens to their mail; and whether it may go at all."""

    people: int
    mailed: int
    suppressed: int
    no_mail: int
    holds_all: int
    verdict: Verdict
    # Why confirming would be refused, and what to know before it.
    refusals: list[str]
    warnings: list[str]


def outlook(message: Message, *, now: datetime, at: datetime | None = None) -> Outlook:
    """What would happen if the message were confirmed for `at` (now). Writes nothing."""
    release = message.release
    people = with_outcome(audience(release, now), release).order_by()
    counts = dict(people.values_list("reason").annotate(number=Count("pk")))
    reason = Delivery.Reason
    return Outlook(
        people=sum(counts.values()),
        mailed=counts.get("", 0),
        suppressed=counts.get(reason.SUPPRESSED, 0),
        no_mail=counts.get(reason.NO_MAIL, 0),
        holds_all=counts.get(reason.HOLDS_ALL, 0),
        verdict=throttle.verdict(audience_groups(release), at=at or now, now=now, message=message),
        refusals=[str(refused) for refused in refusals(message, now=now)],
        warnings=_warnings(),
    )


def _warnings() -> list[str]:
    if settings.MAILBOX:
        return [_("This site keeps its mail in a mailbox of its own: nothing really leaves this machine.")]
    if settings.EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":
        return [_("The mail server tells us what it accepted. Mail that comes back later is not seen here.")]
    return []

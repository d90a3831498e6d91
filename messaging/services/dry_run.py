"""The dry run (R3): what would happen to whom, counted from the rows that planning would insert."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db.models import BigIntegerField, Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from distribution.audience import members_of, reached_groups
from messaging import ramp, throttle
from messaging.models import Delivery, DryRun, Message
from messaging.services.confirm import refusals
from messaging.services.outcome import with_outcome
from messaging.services.plan import audience_groups
from messaging.services.source import grants_to_tell
from messaging.throttle import Verdict


@dataclass(frozen=True)
class Outlook:
    """Everyone who is granted, once each, by what happens to their mail; and whether it may go at all."""

    people: int
    mailed: int
    # Told in the digest: they have had their mails, or they asked for one a week.
    digest_cap: int
    digest_weekly: int
    suppressed: int
    no_mail: int
    holds_all: int
    verdict: Verdict
    # Why confirming would be refused, and what to know before it.
    refusals: list[str]
    warnings: list[str]
    # Where its numbers come from, if a worker counts them: until that is done they are of a part of the people.
    run: DryRun | None = None

    @property
    def counted(self) -> bool:
        """Whether its numbers are of everybody."""
        return self.run is None or self.run.done_at is not None


def outlook(
    message: Message, *, now: datetime, at: datetime | None = None, run: DryRun | None = None
) -> Outlook:
    """What would happen if the message were confirmed for `at` (now), with the numbers of `run`. Writes nothing."""
    release, at = message.release, max(at or now, now)
    counts = count(everyone(message, now=now, at=at)) if run is None else run.counts
    reason = Delivery.Reason
    warnings = _about_the_way_out()
    if run is None or run.done_at:
        warnings = [ramp.forecast(release.creator, counts.get("", 0), at=at), *warnings]
    return Outlook(
        people=sum(counts.values()),
        mailed=counts.get("", 0),
        digest_cap=counts.get(reason.CAP, 0),
        digest_weekly=counts.get(reason.WEEKLY, 0),
        suppressed=counts.get(reason.SUPPRESSED, 0),
        no_mail=counts.get(reason.NO_MAIL, 0),
        holds_all=counts.get(reason.HOLDS_ALL, 0),
        verdict=throttle.verdict(audience_groups(release), at=at, now=now, message=message),
        refusals=[str(refused) for refused in refusals(message, now=now)],
        warnings=[warning for warning in warnings if warning],
        run=run,
    )


def count(people: QuerySet[Any, Any]) -> dict[str, int]:
    """How many of `everyone` there are for each reason."""
    return dict(people.order_by().values_list("reason").annotate(number=Count("pk")))


def everyone(
    message: Message, *, now: datetime, at: datetime | None = None, after: int = 0, until: int | None = None
) -> QuerySet[Any, Any]:
    """The contacts that `message` is for as the rosters stand now, with the `reason` for which one gets no mail at `at`.

    Of a reminder those who have not redeemed; it is only for whoever is a member still. A page of them: those with
    `after` < id <= `until`.
    """
    people = members_of(reached_groups(message.release), now, after=after, until=until)
    if message.kind == Message.Kind.REMINDER:
        within = {"contact__gt": after} | ({"contact__lte": until} if until is not None else {})
        people = people.filter(pk__in=grants_to_tell(message, **within).values("contact"))
    # Giving attaches the account that has verified the address; who it is decides what they hold.
    verified = EmailAddress.objects.filter(email=OuterRef("address_key"), verified=True)
    owner = Subquery(verified.values("user_id")[:1])
    known = people.annotate(known_as=Coalesce("account_id", owner, output_field=BigIntegerField()))
    return with_outcome(
        known, message.release, account="known_as", kind=message.kind, capped_at=max(at or now, now)
    )


def _about_the_way_out() -> list[str]:
    if settings.MAILBOX:
        return [_("This site keeps its mail in a mailbox of its own: nothing really leaves this machine.")]
    if settings.EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":
        return [_("The mail server tells us what it accepted. Mail that comes back later is not seen here.")]
    return []

"""The weekly digest: one mail with all that a person was not mailed about one by one (M5)."""

from collections import defaultdict
from datetime import datetime, time, timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Suppression
from distribution.models import Release
from groups.models import Creator, Membership
from messaging.models import Delivery, Message
from messaging.services.eligible import address_now
from messaging.services.outcome import wants_none
from messaging.services.source import TELLING, held_for
from messaging.services.tallies import recount

SUNDAY = 6
AT = time(10)
BATCH = 5000


def plan_digests(now: datetime) -> list[int]:
    """Each creator for whom mail was held before the last Sunday at 10:00, in their zone, has a digest due then.

    One for that Sunday: its request id says which, so of two beats one makes it. It charges no group's slot. A
    paused creator's waits until they may send again; who is over their cap is told by the next one. Returns the ids
    of the messages this call made; twice: none.
    """
    waiting = Message.objects.filter(held__gt=0, state__in=TELLING, release__creator__paused_at=None)
    by_creator: dict[Creator, list[Message]] = defaultdict(list)
    for message in waiting.select_related("release__creator").order_by("pk"):
        creator = message.release.creator
        if message.planned_at and message.planned_at <= last_moment(creator, now):
            by_creator[creator].append(message)
    ids = {creator: request_id(creator, last_moment(creator, now)) for creator in by_creator}
    made = set(Message.objects.filter(request_id__in=ids.values()).values_list("request_id", flat=True))
    found = (
        _plan_digest(creator, messages, now)
        for creator, messages in by_creator.items()
        if ids[creator] not in made
    )
    return [pk for pk in found if pk is not None]


def last_moment(creator: Creator, now: datetime) -> datetime:
    """The last Sunday at 10:00 by the creator's clocks, at `now` or before."""
    here = timezone.localtime(now, creator.zone)
    days = (here.weekday() - SUNDAY) % 7
    moment = datetime.combine(here.date() - timedelta(days=days), AT, tzinfo=creator.zone)
    if moment > now:
        moment = datetime.combine(moment.date() - timedelta(days=7), AT, tzinfo=creator.zone)
    return moment


def request_id(creator: Creator, moment: datetime) -> UUID:
    """Names the creator's digest of that moment."""
    return uuid5(NAMESPACE_URL, f"largesse digest {creator.pk} {int(moment.timestamp())}")


def _plan_digest(creator: Creator, messages: list[Message], now: datetime) -> int | None:
    """The digest's message; None if nobody is left to tell, or another beat made it."""
    _drop_the_unwilling(creator, messages, now)
    told = held_for(creator)
    release = Release.objects.filter(pk__in=told.values("grant__release")).order_by("publish_at", "pk").last()
    if release is None:
        for message in messages:
            # Told meanwhile, and not counted since.
            _count_anew(message)
        return None
    moment = last_moment(creator, now)
    message, created = Message.objects.get_or_create(
        request_id=request_id(creator, moment),
        defaults={
            "kind": Message.Kind.DIGEST,
            "release": release,
            "subject": _("New for you from {creator}"),
            "body": _("Hi {first_name|there},\n\nhere is what {creator} gave you since the last mail."),
            "state": Message.State.CONFIRMED,
            "due_at": moment,
        },
    )
    return message.pk if created else None


def _drop_the_unwilling(creator: Creator, messages: list[Message], now: datetime) -> None:
    """Who must not be written to any more, wants no mail, has left or holds nothing by it any more waits for no digest."""
    state, reason = Delivery.State, Delivery.Reason
    held = Delivery.objects.filter(message__in=messages, state=state.HELD)
    taken_back = Q(grant__revoked_at__isnull=False) | Q(grant__release__recalled_at__isnull=False)
    # At the address the digest would go to.
    suppressed = Suppression.objects.live().filter(address_key=OuterRef("now_at"))
    held = held.annotate(now_at=address_now())
    here = Membership.objects.live(now).filter(group__creator=creator, contact=OuterRef("contact"))
    _settle(held.filter(taken_back), state.CANCELLED, reason.REVOKED)
    _settle(held.filter(~Exists(here)), state.CANCELLED, reason.LEFT)
    _settle(held.filter(Exists(suppressed)), state.SUPPRESSED, reason.SUPPRESSED)
    _settle(held.filter(wants_none("contact", creator)), state.SKIPPED, reason.NO_MAIL)


def _settle(held: QuerySet[Delivery], state: Delivery.State, reason: Delivery.Reason) -> None:
    while found := list(held.order_by().values_list("pk", "message_id", "contact_id")[:BATCH]):
        ids = [pk for pk, _message, _contact in found]
        Delivery.objects.filter(pk__in=ids, state=Delivery.State.HELD).update(state=state, reason=reason)
        contacts: dict[int, list[int]] = defaultdict(list)
        for _pk, message_id, contact_id in found:
            contacts[message_id].append(contact_id)
        for message_id, theirs in contacts.items():
            recount(message_id, theirs)


def _count_anew(message: Message) -> None:
    ends = message.chunks.filter(tally__has_key=Delivery.State.HELD).values_list("until", flat=True)
    recount(message.pk, ends)

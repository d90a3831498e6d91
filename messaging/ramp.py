"""The ramp (M7): where several creators share an installation, a new one writes to few people at first. Only this
module touches Ramp.

A day is the 24 hours from its first mail, and each stage lets so many people be written to in one. A day with mail in
which no breaker stopped the creator is clean and raises the stage; after the last one there is no number any more.
Mail waits for its day, grants do not.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import IntegerField, Q, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from accounts.services import record
from groups.models import Creator
from messaging.models import Chunk, Delivery, Message, Ramp
from messaging.recipient_cap import capped
from messaging.throttle import in_words

# How many people a creator may write to in a day, by the clean days behind them; then as many as they like.
STAGES = (50, 500, 5_000)
DAY = timedelta(days=1)


@transaction.atomic
def hold_back(chunk: Chunk, *, creator: Creator, now: datetime) -> datetime | None:
    """The planned mails of `chunk` beyond today's number wait until the day ends; the first contacts go first.

    Returns that end if nothing of the chunk may go before it: then its message waits too. Whoever the recipient's cap
    stops anyway takes nobody's place. Twice on a day: those that were let through are let through again and counted
    once. Part of the transaction that opens the chunk, before the recipients' caps are charged.
    """
    ramp = _under_lock(creator, now)
    if ramp is None:
        return None
    due = Delivery.objects.of(chunk).due(now)
    # Charged means let through; on an earlier day, that it is counted anew.
    counted = Q(charged_at__gte=ramp.day_began_at) if ramp.day_began_at else Q(pk__in=[])
    stopped = Q(capped("address_key", creator.pk, now), charged_at=None)
    asking = list(due.exclude(counted).exclude(stopped).values_list("pk", flat=True))
    room = max(0, STAGES[ramp.stage] - ramp.used)
    let, held = asking[:room], asking[room:]
    if let:
        ramp.day_began_at = ramp.day_began_at or now
        ramp.used += len(let)
        ramp.save(update_fields=["day_began_at", "used"])
    if not held or ramp.day_began_at is None:
        return None
    ends = ramp.day_began_at + DAY
    Delivery.objects.filter(pk__in=held).update(not_before=ends)
    return None if due.exists() else ends


def waits_because(creator: Creator, until: datetime) -> str:
    """Why a message waits for the day that ends at `until`, in words for the creator."""
    stage = Ramp.objects.get(creator=creator).stage
    return _(
        "Your studio is new here and writes to %(number)s people a day for now; today's have their mail. The next go"
        " from %(when)s on. Everybody has the files already."
    ) % {"number": number_format(STAGES[stage], force_grouping=True), "when": in_words(until, creator)}


def forecast(creator: Creator, people: int, *, at: datetime) -> str:
    """How mail to so many `people` would go out from `at` on, in words; empty if at once. Writes nothing."""
    ramp = Ramp.objects.filter(creator=creator).first() or Ramp(creator=creator, stage=_stage_so_far(creator))
    _turn_the_day(ramp, at)
    if not _ramps(ramp) or people <= STAGES[ramp.stage] - ramp.used:
        return ""
    rooms = [max(0, STAGES[ramp.stage] - ramp.used), *STAGES[ramp.stage + 1 :], people]
    parts, left = [], people
    for days, room in enumerate(rooms):
        number = min(room, left)
        left -= number
        when = (
            ngettext("%(number)s a day later", "%(number)s after %(days)d days", days)
            if days
            else _("%(number)s at once")
        )
        if number:
            parts.append(when % {"number": number_format(number, force_grouping=True), "days": days})
    return _(
        "Your studio is new here, so its mail starts small: %(parts)s. Everybody has the files at once."
    ) % {"parts": ", ".join(parts)}


def lift(creator: Creator, *, by: User, now: datetime) -> bool:
    """An admin lets `creator` write to as many as they like; what waited for its day goes now. Logged.

    Returns whether this call did it. Twice: False, what waits goes all the same.
    """
    with transaction.atomic():
        Ramp.objects.bulk_create([Ramp(creator=creator)], ignore_conflicts=True)
        changed = Ramp.objects.filter(creator=creator, lifted_at=None).update(lifted_at=now)
        if changed:
            record(by, "lifted ramp", creator.slug, creator_id=creator.pk, now=now)
    # Afterwards, and not under the ramp's lock: a worker holds its chunk before it asks for that.
    ramp = Ramp.objects.get(creator=creator)
    if ramp.day_began_at:
        ends = ramp.day_began_at + DAY
        running = Message.objects.running().filter(release__creator=creator)
        waiting = Delivery.objects.filter(message__in=running, state=Delivery.State.PLANNED, not_before=ends)
        waiting.update(not_before=None)
        Chunk.objects.filter(message__in=running, not_before=ends).update(not_before=None)
        running.filter(due_at=ends).update(due_at=now, waits_because="")
    return bool(changed)


def _under_lock(creator: Creator, now: datetime) -> Ramp | None:
    """The creator's ramp as it stands today, locked until the transaction ends; None if they need none."""
    rows = Ramp.objects.select_for_update(no_key=True).filter(creator=creator)
    ramp = rows.first()
    if ramp is None and _several():
        stage = _stage_so_far(creator)
        Ramp.objects.bulk_create([Ramp(creator=creator, stage=stage)], ignore_conflicts=True)
        ramp = rows.get()
    if ramp is None or not _ramps(ramp):
        return None
    if _turn_the_day(ramp, now):
        ramp.save(update_fields=["stage", "day_began_at", "used"])
    return ramp if _ramps(ramp) else None


def _turn_the_day(ramp: Ramp, now: datetime) -> bool:
    """Whether a day is over. Then the next begins with its first mail, a stage higher if that one was clean."""
    if ramp.day_began_at is None or now < ramp.day_began_at + DAY:
        return False
    stopped = Message.objects.filter(release__creator=ramp.creator_id, tripped_at__gte=ramp.day_began_at)
    ramp.stage += 0 if stopped.exists() else 1
    ramp.day_began_at, ramp.used = None, 0
    return True


def _ramps(ramp: Ramp) -> bool:
    return ramp.lifted_at is None and ramp.stage < len(STAGES) and _several()


def _several() -> bool:
    """Whether more than one creator may send here: alone, nobody else's mail suffers."""
    return Creator.objects.filter(approved_at__isnull=False).count() > 1


def _stage_so_far(creator: Creator) -> int:
    """Where somebody begins who wrote to people before there was a ramp: behind every stage that their largest message
    has passed without a breaker."""
    clean = Chunk.objects.filter(message__release__creator=creator, message__tripped_at=None)
    arrived = sum((_counted(state) for state in ("accepted", "delivered")), start=_counted("complained"))
    largest = clean.order_by().values("message").annotate(number=Sum(arrived)).order_by("-number")
    number = largest.values_list("number", flat=True).first() or 0
    return sum(number >= limit for limit in STAGES)


def _counted(state: str) -> Coalesce:
    return Coalesce(Cast(KT(f"tally__{state}"), IntegerField()), 0)

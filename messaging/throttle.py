"""The throttle (M3): how often a group may be written to. Only this module touches Cadence and SendSlot.

The rule: in every rolling window of 7 days a group gets at most its week's number of messages, in every one of
30 days at most its month's. Windows are half-open: exactly 7 days apart is far enough. A message charges one slot
to each group that has members of its own among those it reaches. Slots in the past and slots reserved for the
future count alike.

The arithmetic: N slots that all lie within one window *close* every instant that would put a further slot into a
window with them. An instant is legal when no such span holds it; the next legal one is where the spans end.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from accounts.services import record
from groups.models import Creator, Group, Membership
from groups.rights import Right
from groups.services.staff import require_right
from messaging.models import Cadence, Message, SendSlot

WEEK = timedelta(days=7)
MONTH = timedelta(days=30)


@dataclass(frozen=True)
class Verdict:
    """Whether a message may go at a time; if not, why (safe to show) and the first time from then on when it may."""

    allowed: bool
    reason: str
    next_at: datetime


@dataclass(frozen=True)
class Meter:
    """What a group has used of its caps in the fullest window around now, and when it may next be written to."""

    week_used: int
    week_cap: int
    month_used: int
    month_cap: int
    next_at: datetime
    allowed: bool

    @property
    def left(self) -> int:
        """How many more may go now, one after another."""
        return max(0, min(self.week_cap - self.week_used, self.month_cap - self.month_used))

    @property
    def next_minute(self) -> datetime:
        """`next_at` as people write times: at that minute it is really possible."""
        return full_minute(self.next_at)


class CapReached(Exception):
    """A group on the way of this message has had its messages."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.reason = verdict.reason
        self.next_at = verdict.next_at


class AboveCeiling(Exception):
    """A creator chose more than the installation's admin allows."""


class CeilingRefused(Exception):
    """A ceiling that could never be reached."""


@dataclass(frozen=True)
class _Caps:
    week: int
    month: int


# --- what is asked ------------------------------------------------------------------------------------


def verdict(
    groups: Iterable[Group], *, at: datetime, now: datetime, message: Message | None = None
) -> Verdict:
    """Whether a message to `groups` may go at `at` (a past `at` means now). Writes nothing.

    `message` is the one it is asked for: slots it holds already do not stand in its own way.
    """
    named = list(groups)
    charged = groups_charged(named, now=now)
    slots = _slots_of(charged, since=now, besides=message)
    return _judge(charged, _caps_of(charged), slots, at=max(at, now), named=named)


def meters(groups: Iterable[Group], *, now: datetime) -> dict[int, Meter]:
    """The meter of each of `groups` by its id, in two queries however many there are. Writes nothing."""
    groups = list(groups)
    caps, slots = _caps_of(groups), _slots_of(groups, since=now)
    found = {}
    for group in groups:
        cap, times = caps[group.pk], slots[group.pk]
        next_at = _next_legal(now, _closed_spans(cap, times))
        found[group.pk] = Meter(
            week_used=_fullest(times, WEEK, now),
            week_cap=cap.week,
            month_used=_fullest(times, MONTH, now),
            month_cap=cap.month,
            next_at=next_at,
            allowed=next_at == now,
        )
    return found


def meter(group: Group, now: datetime) -> Meter:
    """The meter of one group. Writes nothing."""
    return meters([group], now=now)[group.pk]


def groups_charged(groups: Iterable[Group], *, now: datetime) -> list[Group]:
    """The groups that a message to `groups` charges: those it reaches that have members of their own."""
    has_members = Exists(Membership.objects.live(now).filter(group=OuterRef("pk")))
    reached = Group.objects.reaching(groups).filter(has_members)
    return list(reached.select_related("creator", "parent").order_by("pk"))


# --- what is charged ----------------------------------------------------------------------------------


@transaction.atomic
def charge(message: Message, groups: Iterable[Group], *, at: datetime, now: datetime) -> None:
    """`message` holds one slot at `at` (a past `at` means now) in each group it charges.

    Twice: the slots it has are moved to `at`, none is added. Raises `CapReached`; then nothing has changed.
    """
    named = list(groups)
    charged = groups_charged(named, now=now)
    caps = _locked_caps(charged)
    slots = _slots_of(charged, since=now, besides=message)
    found = _judge(charged, caps, slots, at=max(at, now), named=named)
    if not found.allowed:
        raise CapReached(found)
    _hold(message, charged, at=max(at, now))


@transaction.atomic
def use(message: Message, groups: Iterable[Group], *, now: datetime) -> Verdict:
    """The slots of `message` are used now, if no group that it reaches by now would get more than its cap.

    Judged against the slots of messages that really started, so whatever was late, the cap holds over what was
    sent; a reservation of somebody else does not stop a message that is due. Otherwise the slots are reserved for
    the verdict's `next_at`. Twice: the slots stand at the later time. A group that had no members when the message
    was confirmed and has some now is charged too.
    """
    named = list(groups)
    held = Q(send_slots__message=message, send_slots__released_at=None)
    charged = list(
        Group.objects.filter(held | Q(pk__in=[group.pk for group in groups_charged(named, now=now)]))
        .select_related("creator", "parent")
        .distinct()
        .order_by("pk")
    )
    caps = _locked_caps(charged)
    used = _slots_of(charged, since=now, besides=message, started=True)
    found = _judge(charged, caps, used, at=now, named=named)
    if not found.allowed:
        reserved = _slots_of(charged, since=now, besides=message)
        later = _judge(charged, caps, reserved, at=found.next_at, named=named)
        found = Verdict(False, found.reason, later.next_at)
    _hold(message, charged, at=found.next_at)
    return found


@transaction.atomic
def give_back(message: Message, *, now: datetime) -> None:
    """`message` holds no slot any more. For messages of which nothing was offered. Twice: nothing changes."""
    held = SendSlot.objects.filter(message=message, released_at=None)
    _locked_caps(list(Group.objects.filter(pk__in=held.values("group")).order_by("pk")))
    held.update(released_at=now)


# --- what is set --------------------------------------------------------------------------------------


@transaction.atomic
def set_ceiling(group: Group, *, week: int, month: int, by: User, now: datetime) -> None:
    """An admin lets `group` be written to up to `week` times in 7 days and `month` times in 30. Logged.

    A creator who had chosen less keeps that, as far as it still fits; one who stood at the ceiling moves with it.
    Twice: a second line in the log. Raises `CeilingRefused`.
    """
    check_ceiling(week=week, month=month)
    _locked_caps([group])
    cadence = Cadence.objects.get(group=group)
    follows_week = cadence.chosen_week == cadence.ceiling_week
    follows_month = cadence.chosen_month == cadence.ceiling_month
    Cadence.objects.filter(group=group).update(
        ceiling_week=week,
        ceiling_month=month,
        chosen_week=week if follows_week else min(cadence.chosen_week, week),
        chosen_month=month if follows_month else min(cadence.chosen_month, month),
    )
    said = f"{group}: {cadence.ceiling_week}/{cadence.ceiling_month} → {week}/{month}"
    record(by, "set ceiling", said, creator_id=group.creator_id, now=now)


def check_ceiling(*, week: int, month: int) -> None:
    """Raises `CeilingRefused` for a week's number that its month would never let anybody use."""
    if week > month:
        raise CeilingRefused(
            _("A week lies within 30 days: %(week)d in 7 days cannot be more than %(month)d in 30 days.")
            % {"week": week, "month": month}
        )


def lock_caps(group: Group) -> None:
    """Until this transaction ends nobody else changes how often `group` is written to, or charges it."""
    _locked_caps([group])


@transaction.atomic
def set_chosen(group: Group, *, week: int, month: int, by: User, now: datetime) -> None:
    """The creator has `group` written to at most `week` times in 7 days and `month` times in 30. Logged.

    Slots reserved already stay. Twice: a second line in the log. Raises `AboveCeiling`.
    """
    require_right(by, Right.RUN, creator_id=group.creator_id)
    _locked_caps([group])
    cadence = Cadence.objects.get(group=group)
    if not (1 <= week <= cadence.ceiling_week and 1 <= month <= cadence.ceiling_month):
        raise AboveCeiling(
            _("Choose from 1 to %(week)d messages in 7 days and from 1 to %(month)d in 30 days.")
            % {"week": cadence.ceiling_week, "month": cadence.ceiling_month}
        )
    Cadence.objects.filter(group=group).update(chosen_week=week, chosen_month=month)
    said = f"{group}: {cadence.chosen_week}/{cadence.chosen_month} → {week}/{month}"
    record(by, "choose cap", said, creator_id=group.creator_id, now=now)


# --- the arithmetic -----------------------------------------------------------------------------------


def _closed_spans(caps: _Caps, times: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """The open spans in which one more slot would overfill a window, given the slots at `times` (sorted)."""
    spans = []
    for cap, window in ((caps.week, WEEK), (caps.month, MONTH)):
        for first, last in zip(times, times[cap - 1 :], strict=False):
            if last - first < window:
                spans.append((last - window, first + window))
    return sorted(spans)


def _next_legal(at: datetime, spans: Iterable[tuple[datetime, datetime]]) -> datetime:
    """The first instant from `at` on that no span (sorted) holds."""
    for begins, ends in spans:
        if begins < at < ends:
            at = ends
    return at


def _fullest(times: Sequence[datetime], window: timedelta, now: datetime) -> int:
    """The number of slots in the fullest window that holds `now`."""
    begins = [time for time in times if now - window < time <= now] + [now]
    return max(sum(begin <= time < begin + window for time in times) for begin in begins)


def _judge(
    charged: Sequence[Group],
    caps: dict[int, _Caps],
    slots: dict[int, list[datetime]],
    *,
    at: datetime,
    named: Sequence[Group],
) -> Verdict:
    """The verdict over all groups: the first that is full says why; what is next suits every one of them.

    `named` are those that the message is addressed to; the others are charged because it reaches them.
    """
    spans = {group.pk: _closed_spans(caps[group.pk], slots[group.pk]) for group in charged}
    full = next((group for group in charged if _next_legal(at, spans[group.pk]) != at), None)
    next_at = _next_legal(at, sorted(span for of_group in spans.values() for span in of_group))
    if full is None:
        return Verdict(True, "", at)
    reason = _reason(full, caps[full.pk], slots[full.pk], at=at, next_at=next_at)
    return Verdict(False, " ".join(filter(None, [reason, _why_it_counts(full, named)])), next_at)


def _why_it_counts(full: Group, named: Sequence[Group]) -> str:
    """Why a group is charged that the message does not name; empty for one that it does."""
    for group in [] if full in named else named:
        if group.pk == full.parent_id:
            return _("It counts as what you share with “%(main)s” reaches “%(sub)s”, too.") % {
                "main": group.name,
                "sub": full.name,
            }
        if group.parent_id == full.pk:
            return _(
                "It counts as whoever is in “%(main)s” itself receives what you share with “%(sub)s”, too."
            ) % {
                "main": full.name,
                "sub": group.name,
            }
    return ""


def _reason(group: Group, caps: _Caps, times: Sequence[datetime], *, at: datetime, next_at: datetime) -> str:
    cap, days = (caps.month, 30)
    if _next_legal(at, _closed_spans(_Caps(caps.week, len(times) + 1), times)) != at:
        cap, days = (caps.week, 7)
    rule = ngettext(
        "“%(group)s” gets at most %(cap)d message in any %(days)d days, and has had it or has it scheduled.",
        "“%(group)s” gets at most %(cap)d messages in any %(days)d days, and has had them or has them scheduled.",
        cap,
    )
    again = _("The next one can go from %(when)s on.")
    values = {"group": group, "cap": cap, "days": days, "when": in_words(next_at, group.creator)}
    return f"{rule} {again}" % values


def full_minute(at: datetime) -> datetime:
    """The first full minute that is not before `at`."""
    full = at.replace(second=0, microsecond=0)
    return full if full == at else full + timedelta(minutes=1)


def in_words(at: datetime, creator: Creator) -> str:
    """An instant in the creator's own zone, at the full minute."""
    return formats.date_format(timezone.localtime(full_minute(at), creator.zone), "D j N Y, H:i (T)")


# --- the rows -----------------------------------------------------------------------------------------


def _caps_of(groups: Sequence[Group]) -> dict[int, _Caps]:
    rows = Cadence.objects.filter(group__in=groups)
    known = {row.pk: _Caps(row.chosen_week, row.chosen_month) for row in rows}
    usual = _Caps(settings.CEILING_WEEK, settings.CEILING_MONTH)
    return {group.pk: known.get(group.pk, usual) for group in groups}


def _locked_caps(groups: Sequence[Group]) -> dict[int, _Caps]:
    """The caps under lock: whoever judges and charges these groups meanwhile waits until we have committed.

    Both statements take the groups in their order, so two of us never wait for each other.
    """
    week, month = settings.CEILING_WEEK, settings.CEILING_MONTH
    numbers = {"ceiling_week": week, "chosen_week": week, "ceiling_month": month, "chosen_month": month}
    pks = sorted(group.pk for group in groups)
    Cadence.objects.bulk_create([Cadence(group_id=pk, **numbers) for pk in pks], ignore_conflicts=True)
    # Not the group's own row: every membership that is inserted would wait for us.
    locked = Cadence.objects.select_for_update(no_key=True).filter(pk__in=pks).order_by("pk")
    return {row.pk: _Caps(row.chosen_week, row.chosen_month) for row in locked}


def _slots_of(
    groups: Sequence[Group], *, since: datetime, besides: Message | None = None, started: bool = False
) -> dict[int, list[datetime]]:
    """The times, sorted, of each group's slots that a window reaching past `since` may hold."""
    rows = SendSlot.objects.filter(group__in=groups, released_at=None, at__gt=since - MONTH)
    if besides is not None:
        rows = rows.exclude(message=besides)
    if started:
        rows = rows.filter(message__started_at__isnull=False)
    times: dict[int, list[datetime]] = defaultdict(list)
    for group_id, at in rows.order_by("at").values_list("group_id", "at"):
        times[group_id].append(at)
    return times


def _hold(message: Message, charged: Sequence[Group], *, at: datetime) -> None:
    SendSlot.objects.filter(message=message, released_at=None).update(at=at)
    SendSlot.objects.bulk_create(
        [SendSlot(message=message, group=group, at=at) for group in charged], ignore_conflicts=True
    )

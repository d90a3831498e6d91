"""The stall monitor: a message with work left that does not move, and a release that is not given, are told of."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce, Greatest
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from accounts.services import alarm
from distribution.models import Release
from messaging import gate
from messaging.models import Chunk, Message
from rows.clock import db_now

LONG = timedelta(minutes=10)
# Waits no longer than this are a mail system in trouble, and that is a standstill too; longer ones are meant.
SHORT_WAIT = timedelta(minutes=5)
# Whoever is not expected to move is noted as often as this.
NOTE_EVERY = timedelta(minutes=1)

UNDER_WAY = [Message.State.CONFIRMED, Message.State.RUNNING]


def watch(now: datetime) -> list[int]:
    """What should move and has not for ten minutes is marked, and an operator is told in words and numbers, once.

    What moves again, or is not expected to move any more, loses its mark. Returns the messages marked by this call;
    twice: none.
    """
    under_way = Message.objects.filter(state__in=UNDER_WAY, due_at__lte=now + SHORT_WAIT)
    waiting = under_way.none() if gate.shut_because(now) else _expected(under_way, now)
    # As long as somebody is not expected to move, their time has not begun.
    noted = Q(progress_at=None) | Q(progress_at__lt=now - NOTE_EVERY)
    Message.objects.filter(noted, _past_or_running(now), state__in=UNDER_WAY).exclude(
        pk__in=waiting.values("pk")
    ).update(progress_at=now)
    standing = list(_standing(waiting, now).select_related("release__creator"))
    ids = [message.pk for message in standing]
    Message.objects.filter(stalled_at__isnull=False).exclude(pk__in=ids).update(stalled_at=None)
    marked = [message for message in standing if _mark(message, now)]
    for message in marked:
        _tell(message, now)
    for release in _not_given(now):
        _tell_of_release(release, now)
    for release in _not_taken_back(now):
        _tell_of_recall(release, now)
    return [message.pk for message in marked]


def standstill(message: Message) -> str:
    """That nothing of the message moves, in words for its creator; empty if it does. As of when `message` was read."""
    if message.stalled_at is None:
        return ""
    since = localtime(message.progress_at or message.stalled_at, message.release.creator.zone)
    words = _("Nothing of it has moved since %(since)s. The people who run this site have been told.")
    return words % {"since": date_format(since, "DATETIME_FORMAT")}


def _past_or_running(now: datetime) -> Q:
    return Q(due_at__lte=now) | Q(state=Message.State.RUNNING)


def _expected(under_way: QuerySet[Message], now: datetime) -> QuerySet[Message]:
    """Those that should move: due, allowed, with something that may go now."""
    ready = Chunk.objects.filter(message=OuterRef("pk"), state=Chunk.State.OPEN).filter(
        Q(not_before=None) | Q(not_before__lte=now)
    )
    return under_way.filter(
        Q(Exists(ready), state=Message.State.RUNNING) | Q(state=Message.State.CONFIRMED, due_at__lte=now),
        release__creator__paused_at=None,
    )


def _standing(waiting: QuerySet[Message], now: datetime) -> QuerySet[Message]:
    """Those that nobody works on and that have not moved for so long."""
    clock = db_now()
    worked_on = Chunk.objects.filter(message=OuterRef("pk"), state=Chunk.State.OPEN, lease_until__gte=clock)
    since = {
        "running": Coalesce("progress_at", "started_at"),
        "confirmed": Greatest(Coalesce("progress_at", "due_at"), "due_at"),
    }
    long_ago = now - LONG
    return (
        waiting.annotate(**since)
        .filter(
            Q(state=Message.State.RUNNING, running__lte=long_ago)
            | Q(state=Message.State.CONFIRMED, confirmed__lte=long_ago)
        )
        .exclude(Exists(worked_on))
        .exclude(lease_until__gte=clock)
        .exclude(release__lease_until__gte=clock)
        .order_by("pk")
    )


def _mark(message: Message, now: datetime) -> bool:
    """Whether this call marked it: of two sweeps one tells."""
    marked = Message.objects.filter(pk=message.pk, stalled_at=None).exclude(state=Message.State.DRAFT)
    return bool(marked.update(stalled_at=now))


def _not_given(now: datetime) -> list[Release]:
    """Releases that are due, that nobody gives, and that no message would speak for."""
    long_ago = now - LONG
    speaks = Message.objects.filter(release=OuterRef("pk"), state__in=UNDER_WAY)
    lapsed = Q(lease_until=None) | Q(lease_until__lt=db_now() - LONG)
    due = Release.objects.due(now).filter(lapsed, publish_at__lte=long_ago)
    return list(due.exclude(Exists(speaks)).select_related("creator"))


def _not_taken_back(now: datetime) -> list[Release]:
    """Recalled releases that nobody takes out of the libraries."""
    lapsed = Q(lease_until=None) | Q(lease_until__lt=db_now() - LONG)
    recalled = Release.objects.being_taken_back().filter(lapsed, recalled_at__lte=now - LONG)
    return list(recalled.select_related("creator"))


def _tell(message: Message, now: datetime) -> None:
    tallies = message.chunks.filter(state=Chunk.State.OPEN).values_list("tally", flat=True)
    planned = sum(tally.get("planned", 0) for tally in tallies)
    since = message.progress_at or message.started_at or message.due_at
    alarm(
        _("“%(title)s” stands still") % {"title": message.release.title},
        _(
            "Message %(number)s of %(creator)s (“%(title)s”) has not moved for ten minutes and more, since %(since)s UTC. "
            "%(planned)s mails of it wait. What it says of itself: %(because)s\n\nLook whether a mail worker runs and what it "
            "logs: `manage.py sending status`, and %(url)s/admin/messaging/message/%(number)s/."
        )
        % {
            "number": message.pk,
            "creator": message.release.creator.name,
            "title": message.release.title,
            "since": f"{since:%Y-%m-%d %H:%M}",
            "planned": planned,
            "because": message.waits_because or _("nothing."),
            "url": settings.SITE_URL,
        },
        dedupe_key=f"stalled {message.pk} {now.isoformat()}",
        now=now,
    )


def _tell_of_release(release: Release, now: datetime) -> None:
    alarm(
        _("“%(title)s” is not given") % {"title": release.title},
        _(
            "Release %(number)s of %(creator)s (“%(title)s”) was due at %(due)s UTC, %(granted)s people have it so far, and "
            "nobody works on it.\n\nLook whether a mail worker runs and what it logs: `manage.py sending status`, and "
            "%(url)s/admin/distribution/release/%(number)s/."
        )
        % {
            "number": release.pk,
            "creator": release.creator.name,
            "title": release.title,
            "due": f"{release.publish_at:%Y-%m-%d %H:%M}",
            "granted": release.granted,
            "url": settings.SITE_URL,
        },
        # Where it stood: if it moved and stands again, that is told too.
        dedupe_key=f"not given {release.pk} {release.cursor}",
        now=now,
    )


def _tell_of_recall(release: Release, now: datetime) -> None:
    alarm(
        _("“%(title)s” is not taken back") % {"title": release.title},
        _(
            "Release %(number)s of %(creator)s (“%(title)s”) was recalled at %(recalled)s UTC, is in libraries still, and nobody "
            "works on it.\n\nLook whether a mail worker runs and what it logs: %(url)s/admin/distribution/release/%(number)s/."
        )
        % {
            "number": release.pk,
            "creator": release.creator.name,
            "title": release.title,
            "recalled": f"{release.recalled_at:%Y-%m-%d %H:%M}",
            "url": settings.SITE_URL,
        },
        dedupe_key=f"not taken back {release.pk} {release.cursor}",
        now=now,
    )

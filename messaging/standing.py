"""How sending stands, in words: one screen for an operator."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.utils.translation import gettext as _

from messaging import gate
from messaging.figures import Figures, figures, mails
from messaging.models import Delivery, Gate, Message
from messaging.services.numbers import progress

MOST = 20


def lines(now: datetime) -> Iterator[str]:
    """The gate, what is being sent and how far it is, what is in doubt, what waits longest."""
    found = figures(now)
    yield from gate_lines(now)
    if settings.MAIL_RATE:
        yield _("Rate: %(rate)g mails a second for all workers together.") % {"rate": settings.MAIL_RATE}
    yield _(
        "Messages: %(running)s being sent, %(waiting)s told to wait, %(scheduled)s scheduled, %(paused)s paused, %(stalled)s "
        "standing still."
    ) % vars(found)
    for message in _under_way():
        yield "  " + _line(message, now)
    yield from _counts(found)
    yield from _mails(now)


def gate_lines(now: datetime) -> Iterator[str]:
    """Whether mails go, and if not why, as an operator wants to know it."""
    row = Gate.objects.first()
    if row is None:
        yield _("Nothing was ever sent from this database: it belongs to whoever sends first.")
        return
    if gate.is_elsewhere(row):
        yield _("Sending is LOCKED here: %(because)s") % {"because": gate.elsewhere()}
    elif row.locked_at:
        yield _("Sending is LOCKED since %(since)s UTC: %(because)s") % {
            "since": _moment(row.locked_at),
            "because": row.locked_because,
        }
    elif row.rests_until and row.rests_until > now:
        yield _("Sending rests until %(until)s UTC: %(because)s") % {
            "until": _moment(row.rests_until),
            "because": row.rests_because,
        }
    else:
        yield _("Sending is open.")
    if row.beaten_at:
        yield _("A worker last looked for mails at %(at)s UTC (%(ago)s ago).") % {
            "at": _moment(row.beaten_at),
            "ago": _ago((now - row.beaten_at).total_seconds()),
        }


def _counts(found: Figures) -> Iterator[str]:
    yield _("The oldest mail that could go has waited: %(ago)s.") % {"ago": _ago(found.oldest_due_age)}
    yield _(
        "In doubt (30 days): %(unknown)s. Chunks whose worker did not come back: %(leases_expired)s."
    ) % vars(found)
    yield _("Letters waiting: %(number)s, the oldest for %(ago)s.") % {
        "number": found.letters_waiting,
        "ago": _ago(found.oldest_letter_age),
    }
    yield _("Provider events: %(events_new)s new, %(events_held)s held back.") % vars(found)


def _mails(now: datetime) -> Iterator[str]:
    counts = mails(now)
    said = ", ".join(f"{number} {Delivery.State(state).label}" for state, number in counts.items())
    if said:
        yield _("Mails (30 days): %(said)s.") % {"said": said}


def _under_way() -> list[Message]:
    rows = Message.objects.running().select_related("release__creator")
    return list(rows.order_by("due_at", "pk")[:MOST])


def _line(message: Message, now: datetime) -> str:
    how = progress(message, now=now)
    words = _(
        "message %(number)s of %(creator)s, “%(title)s”: %(finished)s of %(total)s (%(percent)s %%)"
    ) % {
        "number": message.pk,
        "creator": message.release.creator.name,
        "title": message.release.title,
        "finished": how.finished,
        "total": how.total,
        "percent": how.percent,
    }
    return f"{words}. {how.waits_because}".rstrip(". ") + "."


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _ago(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

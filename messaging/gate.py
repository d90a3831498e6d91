"""The gate: whether this installation may send, and how fast. One row that all workers pass.

A database that was copied or put back to an earlier day would send again what was sent since. It is known by three
things: whose it is (INSTALLATION_ID), where it stands (PostgreSQL's own name for it), and how far it was. That last
one is its beat: it grows before every chunk that is opened, and its highest value is kept in GATE_DIR, outside the
database. See docs/decisions/0009.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Greatest
from django.utils.translation import gettext as _

from accounts.services import alarm
from messaging.models import Gate, Message

STEP_SECONDS = 0.5


def may_send(now: datetime) -> bool:
    """Whether a chunk may be opened now. To be asked right before that, outside the transaction that opens it.

    Twice: the beat grows twice. Raises OSError if the beat cannot be kept outside the database: then nothing may go.
    """
    gate = _beat(now)
    crowded = gate.next_at is not None and gate.next_at > now + patience()
    return not crowded and not _why_shut(gate, now)


def beat(now: datetime) -> None:
    """The database is known to have lived until now. From here on an earlier state of it is locked. For the sweep."""
    _beat(now)


def shut_because(now: datetime) -> str:
    """Why nothing is sent, in words for anybody; empty if mails go. Writes nothing."""
    gate = Gate.objects.first()
    return _why_shut(gate, now) if gate else ""


def needs_unlocking() -> bool:
    """Whether nothing is sent from here until an operator unlocks it."""
    gate = Gate.objects.first()
    return gate is not None and (gate.locked_at is not None or is_elsewhere(gate))


def is_elsewhere(gate: Gate) -> bool:
    """Whether this process belongs to another installation than its database."""
    return gate.installation != settings.INSTALLATION_ID


def elsewhere() -> str:
    """What is said to operators of a database that belongs to others."""
    return _(
        "The database belongs to another installation than this machine (INSTALLATION_ID): it is a copy, or the machine has "
        "a wrong name."
    )


def lock(because: str, now: datetime) -> bool:
    """Nothing is sent until an operator unlocks it, and they know. Returns whether it was open. Twice: False."""
    _gate(now)
    locked = bool(Gate.objects.filter(locked_at=None).update(locked_at=now, locked_because=because[:300]))
    if locked:
        _tell(because, f"gate locked {now.isoformat()}", now)
    return locked


def rest(because: str, *, seconds: float, now: datetime) -> None:
    """Nobody knocks at the mail system before `seconds` are over; an operator knows, once a day. Twice: the later time."""
    _gate(now)
    until = now + timedelta(seconds=seconds)
    Gate.objects.update(
        rests_until=Greatest(Coalesce(F("rests_until"), until), until), rests_because=because[:300]
    )
    text = _(
        "The mail system does not let us in: %(because)s\n\nNo mail is sent meanwhile. It is tried again by itself, and "
        "what waits goes then."
    ) % {"because": because}
    alarm(_("No mail is sent from %(site)s") % _site(), text, dedupe_key=f"rest {now:%Y-%m-%d}", now=now)


# --- the mail system's rate -------------------------------------------------------------------------------


def patience() -> timedelta:
    """How long a worker may wait for its turn: its lease must not lapse meanwhile."""
    return timedelta(seconds=settings.SEND_LEASE_SECONDS / 4)


def share(mails: int) -> int:
    """How many of `mails` may go at once: those of a second, at least one."""
    return max(1, min(mails, int(settings.MAIL_RATE))) if settings.MAIL_RATE else mails


def reserve(mails: int, now: datetime) -> datetime:
    """When `mails` may go by the rate; they are counted, unless that is farther than `patience` away.

    All workers together never exceed MAIL_RATE over any time, up to the one wave that each begins with. Twice: two
    reservations.
    """
    if not settings.MAIL_RATE:
        return now
    _gate(now)
    with transaction.atomic():
        gate = Gate.objects.select_for_update(no_key=True).get()
        at = max(gate.next_at or now, now)
        if at <= now + patience():
            Gate.objects.update(next_at=at + timedelta(seconds=mails / settings.MAIL_RATE))
    return at


def wait_turn(mails: int, *, clock: Callable[[], datetime], stop: Callable[[], bool]) -> bool:
    """Waits until `mails` may go by the rate. False if that takes too long, or `stop` says so: then none may go."""
    now = clock()
    seconds = (reserve(mails, now) - now).total_seconds()
    if seconds > patience().total_seconds():
        return False
    while seconds > 0:
        if stop():
            return False
        time.sleep(min(seconds, STEP_SECONDS))
        seconds -= STEP_SECONDS
    return True


# --- identity and beat --------------------------------------------------------------------------------------


def adopt(now: datetime) -> None:
    """The database belongs to this installation and to where it stands, and its beat begins anew. It is open.

    Only after somebody looked at what an earlier state of it would send again.
    """
    _gate(now)
    Gate.objects.update(**_ours(now), locked_at=None, locked_because="", rests_until=None, rests_because="")


def _gate(now: datetime) -> Gate:
    """The row. A database without one is new and becomes ours; unless it has sent before and others were here too."""
    gate = Gate.objects.first()
    if gate is None:
        # Made and locked at once: nobody else finds it open in between.
        with transaction.atomic():
            gate, created = Gate.objects.get_or_create(pk=1, defaults=_ours(now))
            if (
                created
                and _others_were_here(gate)
                and Message.objects.filter(started_at__isnull=False).exists()
            ):
                lock(_("The database is older than the one that was used here before."), now)
                gate.refresh_from_db()
    return gate


def _beat(now: datetime) -> Gate:
    gate = _gate(now)
    if is_elsewhere(gate):
        # Not locked: if this is only a machine with a wrong name, the others go on.
        _tell(elsewhere(), f"gate elsewhere {gate.birth} {settings.INSTALLATION_ID}", now)
        return gate
    if gate.locked_at:
        # As it was found: what it says of its last day is of use to whoever unlocks it.
        return gate
    if _place() != gate.place:
        lock(_("The database stands in another place than before: it was copied, moved or restored."), now)
        gate.refresh_from_db()
        return gate
    # What was kept is read before the database's own grows: it can only have been the smaller one.
    kept = _kept(gate)
    with transaction.atomic():
        # Whoever waited here while another found it put back adds nothing, and finds it locked.
        still_open = Gate.objects.filter(locked_at=None).update(beat=F("beat") + 1)
        # Under the row's lock: our own beat, and not what others added to it meanwhile.
        gate.refresh_from_db()
        if still_open and kept < gate.beat:
            Gate.objects.update(beaten_at=now)
        elif still_open:
            # Before anybody else's beat, which may be beyond what was kept.
            lock(_("The database was put back to an earlier day."), now)
            gate.refresh_from_db()
    if not gate.locked_at:
        _keep(gate)
    return gate


def _why_shut(gate: Gate, now: datetime) -> str:
    if gate.locked_at or is_elsewhere(gate):
        return _("This site sends no mail until the people who run it have looked at its database.")
    if gate.rests_until and gate.rests_until > now:
        return _("The mail system does not let us in. It is tried again by itself, and the people here know.")
    return ""


def _ours(now: datetime) -> dict[str, object]:
    return {
        "installation": settings.INSTALLATION_ID,
        "birth": secrets.token_hex(16),
        "place": _place(),
        "beaten_at": now,
    }


def _place() -> str:
    """PostgreSQL's name for the server (as long as its data live) and the database in it; empty where it keeps that."""
    if connection.vendor != "postgresql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute("SELECT has_function_privilege('pg_control_system()', 'execute')")
        if not cursor.fetchone()[0]:
            return ""
        cursor.execute(
            "SELECT system_identifier || ' ' || oid FROM pg_control_system(), pg_database"
            " WHERE datname = current_database()"
        )
        return str(cursor.fetchone()[0])


def _path(gate: Gate) -> Path:
    return Path(settings.GATE_DIR) / gate.birth


def _others_were_here(gate: Gate) -> bool:
    folder = Path(settings.GATE_DIR)
    return folder.is_dir() and any(path.name != gate.birth for path in folder.iterdir())


def _kept(gate: Gate) -> int:
    """The highest beat that was kept here; 0 if none was."""
    try:
        return int(_path(gate).read_bytes() or 0)
    except FileNotFoundError:
        return 0


def _keep(gate: Gate) -> None:
    """The beat is kept here, if none higher is. Twenty digits in one write over those before: never half a number."""
    path = _path(gate)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # Two workers of this machine: the later beat stays, whoever writes last.
        fcntl.flock(file, fcntl.LOCK_EX)
        if gate.beat > int(os.pread(file, 20, 0) or 0):
            os.pwrite(file, f"{gate.beat:020d}".encode(), 0)
    finally:
        os.close(file)


def _tell(because: str, key: str, now: datetime) -> None:
    text = _(
        "%(because)s\n\nMails that an earlier state of it has sent must not be sent again, so nothing is sent until somebody "
        "looks: `manage.py sending status` says how it stands, `manage.py sending unlock` what would happen to the mails, and "
        "asks. Sign-in codes go out as always."
    ) % {"because": because}
    alarm(_("No mail is sent from %(site)s") % _site(), text, dedupe_key=key, now=now)


def _site() -> dict[str, str]:
    return {"site": settings.SITE_URL}

"""A mail relay's log, read for what became of our mails. Line by line, whatever its size; what it does not know it skips.

Known are Postfix, Exim and lines of JSON with a `message_id`. A line that merely names a mail proves nothing: Postfix
writes a Message-ID down while the mail is still coming in, and forgets the mail if the rest never comes. It has it
from the moment its queue manager says so (`qmgr … queue active`).

Whoever got one of our mails knows its Message-ID, and can send one of their own under it or under its neighbour's. So a
line counts only for a mail from our own envelope sender, which a relay takes from nobody else; and only where the log itself
has its words, not where it repeats somebody's.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Fate(IntEnum):
    """How far a mail came, as far as a line proves it."""

    # It was coming in. If nothing more is said of it, it was not taken.
    BEGUN = 0
    # Named in a way we do not know, or for somebody else's mail: it may have been taken or not.
    NAMED = 1
    TAKEN = 2
    BOUNCED = 3


@dataclass(frozen=True)
class Seen:
    """What a line says of one of our mails."""

    delivery: int
    # Its message's request id: nobody else's mail has the same of both.
    request: str
    fate: Fate
    said: str = ""


# Our Message-ID: a delivery's id and its message's request id.
_OURS = re.compile(r"(?<![0-9A-Za-z])([1-9][0-9]{0,18})\.([0-9a-f]{32})@")
# What comes before is a date and a machine: whatever has brackets or quotes there is another program's, and repeats words.
_START = r"^(?:<\d{1,3}>)?[^\[\]{}\"'<>=]*?"
_POSTFIX = re.compile(_START + r"\bpostfix[\w.-]*/(?:[\w-]+/)*([\w-]+)\[\d+\]: ([0-9A-Za-z]{5,20}): (.*)")
_SENDER = re.compile(r"from=<([^>]*)>")
_STATUS = re.compile(r"\bto=<[^>]*>.*\bdsn=([0-9.]+), status=(\w+) ?(.*)")
_EXIM = re.compile(
    _START + r"(?:\bexim[\w.-]*\[\d+\]: [^\[\]{}\"'<>=]*)?(?:\[\d+\] )?[\w-]{16,24} <= (\S+) (.*)"
)
_EXIM_ID = re.compile(r"(?:^| )id=(\S+)")
_JSON_NAMES = ("message_id", "message-id", "messageId", "msgid")
_JSON_SENDERS = ("from", "sender", "mail_from", "envelope_from")
_JSON_REASONS = ("dsn", "code", "enhanced_code", "response", "reason", "error", "message")
_REFUSALS = re.compile(r"reject|refus|fail|drop|error|discard", re.IGNORECASE)
# So many mails at once in a relay's queue are remembered; beyond, the oldest are forgotten, which proves nothing.
QUEUED = 1_000_000


@dataclass(slots=True)
class _Queued:
    """A mail in Postfix's queue, and whether it came from us: unknown until the queue manager says so."""

    delivery: int
    request: str
    ours: bool = False

    def seen(self, fate: Fate, said: str = "") -> Seen:
        """Of a mail that is somebody else's nothing is proved."""
        return Seen(self.delivery, self.request, fate, said) if self.ours else self.named

    @property
    def named(self) -> Seen:
        return Seen(self.delivery, self.request, Fate.NAMED)


def read(lines: Iterable[str], *, sender: str) -> Iterator[Seen]:
    """What `lines` say of mails that may be ours and left as from `sender`, in their order. Nothing makes it stop."""
    # By the name in the relay's queue.
    queue: dict[str, _Queued] = {}
    for line in lines:
        postfix = _POSTFIX.search(line)
        if postfix:
            seen = _of_postfix(queue, *postfix.groups(), sender=sender)
        elif (ours := _OURS.search(line)) is None:
            continue
        else:
            seen = Seen(int(ours[1]), ours[2], *_fate_of(line, ours[0], sender))
        if seen is not None:
            yield seen


def _of_postfix(queue: dict[str, _Queued], daemon: str, name: str, said: str, *, sender: str) -> Seen | None:
    """What one of Postfix's daemons says of the mail that is `name` in its queue."""
    if daemon == "cleanup":
        return _begun(queue, name, said)
    mail = queue.get(name)
    if mail is None:
        return None
    if daemon in ("qmgr", "nqmgr"):
        return _managed(queue, mail, name, said, sender=sender)
    status = _STATUS.search(said)
    if status is None:
        return None
    if status[2] == "bounced":
        return mail.seen(Fate.BOUNCED, f"{status[1]} {status[3]}".strip()[:280])
    return mail.seen(Fate.TAKEN)


def _managed(queue: dict[str, _Queued], mail: _Queued, name: str, said: str, *, sender: str) -> Seen | None:
    """What the queue manager says: whose it is, once it is there for good."""
    if said.startswith("removed"):
        del queue[name]
    if "queue active" not in said:
        return None
    found = _SENDER.match(said)
    mail.ours = found is not None and _same(found[1], sender)
    return mail.seen(Fate.TAKEN)


def _begun(queue: dict[str, _Queued], name: str, said: str) -> Seen | None:
    """A Message-ID, heard while its mail is coming in."""
    if not said.startswith("message-id="):
        return None
    # Short names come again within the hour, for another mail.
    queue.pop(name, None)
    ours = _OURS.search(said)
    if ours is None:
        return None
    mail = queue[name] = _Queued(int(ours[1]), ours[2])
    if len(queue) > QUEUED:
        del queue[next(iter(queue))]
    return Seen(mail.delivery, mail.request, Fate.BEGUN)


def _fate_of(line: str, ours: str, sender: str) -> tuple[Fate, str]:
    """Of a line that is not Postfix's and names our mail as `ours`, with what it says of the reason."""
    exim = _EXIM.search(line)
    if exim:
        name = _EXIM_ID.search(exim[2])
        known = _same(exim[1], sender) and name is not None and name[1].startswith(ours)
        return (Fate.TAKEN if known else Fate.NAMED), ""
    entry = _json_of(line)
    ours_by_name = any(_OURS.search(str(entry.get(name))) for name in _JSON_NAMES)
    if not ours_by_name or not any(_same(str(entry.get(name)), sender) for name in _JSON_SENDERS):
        return Fate.NAMED, ""
    words = " ".join(str(entry.get(name, "")) for name in ("status", "event", "action", "level"))
    if "bounced" in words:
        return Fate.BOUNCED, " ".join(str(entry[name]) for name in _JSON_REASONS if entry.get(name))[:280]
    return Fate.NAMED if _REFUSALS.search(words) else Fate.TAKEN, ""


def _json_of(line: str) -> dict[str, Any]:
    """The object with which `line` ends, or an empty one."""
    start = line.find("{")
    try:
        entry = json.loads(line[start:]) if start >= 0 else {}
    except (ValueError, RecursionError):
        entry = {}
    return entry if isinstance(entry, dict) else {}


def _same(found: str, sender: str) -> bool:
    return found.strip("<>").casefold() == sender.casefold()

"""A mail relay's log, read for what became of our mails. Line by line, whatever its size; what it does not know it skips.

Known are Postfix, Exim and lines of JSON with a `message_id`. A line that merely names a mail proves nothing: Postfix
writes a Message-ID down while the mail is still coming in, and forgets the mail if the rest never comes. It has it
from the moment its queue manager or a delivery says so (`qmgr … queue active`, `status=…`).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum


class Fate(IntEnum):
    """How far a mail came, as far as a line proves it."""

    # Named in a way we do not know: it may have been taken or not.
    NAMED = 0
    # It was coming in. If nothing more is said of it, it was not taken.
    BEGUN = 1
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
_POSTFIX = re.compile(r"\bpostfix[\w.-]*/(?:[\w-]+/)*([\w-]+)\[\d+\]: ([0-9A-Za-z]{5,20}): (.*)")
_STATUS = re.compile(r"\bto=<[^>]*>.*\bdsn=([0-9.]+), status=(\w+) ?(.*)")
_EXIM_ARRIVAL = re.compile(r"\s<= ")
_JSON_NAMES = ("message_id", "message-id", "messageId", "msgid")
_JSON_REASONS = ("dsn", "code", "enhanced_code", "response", "reason", "error", "message")
_REFUSALS = re.compile(r"reject|refus|fail|drop|error|discard", re.IGNORECASE)
# So many mails at once in a relay's queue are remembered; beyond, the oldest are forgotten, which proves nothing.
QUEUED = 1_000_000


def read(lines: Iterable[str]) -> Iterator[Seen]:
    """What `lines` say of mails that may be ours, in their order. Nothing in them makes it stop."""
    # By the name in the relay's queue.
    queue: dict[str, tuple[int, str]] = {}
    for line in lines:
        postfix = _POSTFIX.search(line)
        if postfix:
            seen = _of_postfix(queue, *postfix.groups())
        elif (ours := _OURS.search(line)) is None:
            continue
        else:
            seen = Seen(int(ours[1]), ours[2], *_fate_of(line))
        if seen is not None:
            yield seen


def _of_postfix(queue: dict[str, tuple[int, str]], daemon: str, name: str, said: str) -> Seen | None:
    """What one of Postfix's daemons says of the mail that is `name` in its queue."""
    if daemon == "cleanup":
        return _begun(queue, name, said)
    mail = queue.get(name)
    if mail is None:
        return None
    if daemon in ("qmgr", "nqmgr"):
        if said.startswith("removed"):
            del queue[name]
        return Seen(*mail, Fate.TAKEN) if "queue active" in said else None
    status = _STATUS.search(said)
    if status is None:
        return None
    if status[2] == "bounced":
        return Seen(*mail, Fate.BOUNCED, f"{status[1]} {status[3]}".strip()[:280])
    return Seen(*mail, Fate.TAKEN)


def _begun(queue: dict[str, tuple[int, str]], name: str, said: str) -> Seen | None:
    """A Message-ID, heard while its mail is coming in."""
    if not said.startswith("message-id="):
        return None
    # Short names come again within the hour, for another mail.
    queue.pop(name, None)
    ours = _OURS.search(said)
    if ours is None:
        return None
    queue[name] = (int(ours[1]), ours[2])
    if len(queue) > QUEUED:
        del queue[next(iter(queue))]
    return Seen(*queue[name], Fate.BEGUN)


def _fate_of(line: str) -> tuple[Fate, str]:
    """Of a line that is not Postfix's, with what it says of the reason."""
    if _EXIM_ARRIVAL.search(line):
        return Fate.TAKEN, ""
    start = line.find("{")
    if start < 0:
        return Fate.NAMED, ""
    try:
        entry = json.loads(line[start:])
    except (ValueError, RecursionError):
        return Fate.NAMED, ""
    if not isinstance(entry, dict) or not any(_OURS.search(str(entry.get(name))) for name in _JSON_NAMES):
        return Fate.NAMED, ""
    words = " ".join(str(entry.get(name, "")) for name in ("status", "event", "action", "level"))
    if "bounced" in words:
        return Fate.BOUNCED, " ".join(str(entry[name]) for name in _JSON_REASONS if entry.get(name))[:280]
    return Fate.NAMED if _REFUSALS.search(words) else Fate.TAKEN, ""

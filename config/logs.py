"""Logs that tell no address and open no door: what names a person or carries a right is blacked out, in every format.

It happens where a line is finished, not where it is written: so it holds for what exceptions say, for tracebacks, and
for the words of libraries.
"""

import json
import logging
import re
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)

ADDRESS, TICKET = "[address]", "[ticket]"

# Before the @, also as a link has it: %40. Greedy on purpose: `email=mia@…` may go as a whole, half an address may not.
# Nothing is looked for from the middle of such a run, an apostrophe in it included: that cost the square of its length.
_ADDRESS = re.compile(
    r"(?<![\w!#$%&'*+=?^`{|}~.-])('*)[\w!#$%&*+=?^`{|}~.-][\w!#$%&'*+=?^`{|}~.-]*(?:@|%40)[\w.-]*\w",
    re.IGNORECASE,
)
# Links that are a right: whatever stands behind these words in a path. deploy/nginx.conf knows them too.
LINKS = "redeem|unsubscribe|preferences|why|report|sign-in"
_LINK = re.compile(rf"/({LINKS})/(?!\[)[^\s/\"'<>?#]+", re.IGNORECASE)
# Keys, tokens, sessions and tickets wherever they stand: long, and mixed as no word is. Hexadecimal names of tasks and
# files are none.
_LONG = r"(?<![\w=-])(?=[\w=-]*[a-z])(?=[\w=-]*[A-Z])(?:(?=[\w=-]*[0-9])[\w=-]{20,}|[\w=-]{34,})"
_SMALL = r"(?<![\w-])(?=[a-z0-9]*[0-9])(?=[a-z0-9]*[g-z])[a-z0-9]{32,}(?![\w-])"
# A ticket's version and its grant's first bits are always the same; one in 50,000 has no small letter to know it by.
_TICKET = r"(?<![\w-])AQA[\w-]{33}(?![\w-])"
_SECRET = re.compile(f"{_LONG}|{_SMALL}|{_TICKET}", re.ASCII)

# What every record has; whatever else it carries was added by whoever wrote it.
_USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "request", "data"}


def black_out(text: str) -> str:
    """`text` without addresses, tickets and tokens. Twice: the same."""
    text = _LINK.sub(rf"/\1/{TICKET}", text)
    return _SECRET.sub(TICKET, _ADDRESS.sub(rf"\1{ADDRESS}", text))


class Line(logging.Formatter):
    """For people: one line, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        return black_out(super().format(record))


class Json(logging.Formatter):
    """For machines: one object a line, whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": black_out(record.getMessage()),
            "process": record.process,
        }
        for name, value in vars(record).items():
            if name not in _USUAL:
                said[name] = value if isinstance(value, int | float | bool | None) else black_out(str(value))
        if record.exc_info:
            said["exception"] = black_out(self.formatException(record.exc_info))
        if record.stack_info:
            said["stack"] = black_out(self.formatStack(record.stack_info))
        return json.dumps(said, ensure_ascii=False)


def in_one_line(entry: logging.LogRecord) -> bool:
    """A request that we refused (a forged Host, a broken form) needs no traceback: there is nothing to mend."""
    if getattr(entry, "status_code", 500) < 500:
        entry.exc_info = None
    return True


def through_one_handler(shape: str, level: str) -> dict[str, Any]:
    """Django's LOGGING: everybody says what they have to say through the one handler.

    Nothing else would black out addresses and tickets. `shape` is line or json.
    """
    through_root: dict[str, Any] = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"refusals": {"()": "django.utils.log.CallbackFilter", "callback": in_one_line}},
        "formatters": {
            "line": {"()": "config.logs.Line", "format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
            "json": {"()": "config.logs.Json"},
        },
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": shape, "filters": ["refusals"]},
        },
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django": through_root | {"level": level},
            "django.server": through_root | {"level": level},
            # Their levels are the command line's.
            "gunicorn.error": through_root,
            "gunicorn.access": through_root,
        },
    }


def say_what_nobody_caught() -> None:
    """What ends a thread or the process, and warnings, are said as everything else is, and not raw on the terminal."""

    def from_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            log.critical("a thread ended", exc_info=args.exc_value)

    def from_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        log.critical("the process ended", exc_info=error)

    logging.captureWarnings(True)
    threading.excepthook = from_thread
    sys.excepthook = from_process

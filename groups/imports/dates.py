"""Dates as exports and spreadsheets write them, read where there is one way to read them."""

import re
from datetime import UTC, datetime

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from groups.imports.values import ValueRefused

# 12/31/2026 0:00 · 31.12.2026 · 2018/03/28, 10:27 · 3/1/2025 7:46:37 PM
WRITTEN = re.compile(
    r"(?P<a>\d{1,4})(?P<sign>[./-])(?P<b>\d{1,2})(?P=sign)(?P<c>\d{1,4})"
    r"(?:[,\s]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.\d+)?)?\s*(?P<half>[ap]\.?m\.?)?)?",
    re.ASCII | re.IGNORECASE,
)


def read_instant(cell: str, *, day_first: bool | None = None) -> datetime | None:
    """`2023-05-31 07:46:37`, with or without microseconds, or as a spreadsheet saves that; in UTC. Empty is None.

    With dots the day comes first. With strokes `day_first` says so where the date itself does not. Raises
    `ValueRefused` for what can be read two ways, for days that do not exist and for years no platform has seen.
    """
    text = cell.strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = _read_written(text, day_first)
    if not 2000 <= found.year <= 2100:
        raise ValueRefused(_("This date is too far away to be true."))
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def order_of(cell: str) -> bool | None:
    """Whether a date with strokes has its day first; None for one that does not say, and for all else."""
    written = WRITTEN.fullmatch(cell.strip())
    if written is None or written["sign"] == "." or len(written["c"]) != 4:
        return None
    first, second = int(written["a"]), int(written["b"])
    return first > 12 if (first > 12) != (second > 12) else None


def _read_written(text: str, day_first: bool | None) -> datetime:
    written = WRITTEN.fullmatch(text)
    if written is None:
        raise _no_date()
    if len(written["a"]) == 4:
        return _build(written, written["a"], written["b"], written["c"])
    if len(written["c"]) != 4:
        raise ValueRefused(_("Write the year of this date with four digits, as in 2026-05-31."))
    dayish, monthish = (
        (written, written["c"], written["b"], written["a"]),
        (written, written["c"], written["a"], written["b"]),
    )
    if written["sign"] == "." or int(written["a"]) > 12:
        return _build(*dayish)
    if int(written["b"]) > 12 or day_first is False:
        return _build(*monthish)
    if day_first or written["a"] == written["b"]:
        return _build(*dayish)
    one, other = _build(*dayish), _build(*monthish)
    raise ValueRefused(
        _("This date can be read as %(one)s or as %(other)s. Write it as %(iso)s or %(other_iso)s.")
        % {
            "one": date_format(one, "j F"),
            "other": date_format(other, "j F"),
            "iso": f"{one:%Y-%m-%d}",
            "other_iso": f"{other:%Y-%m-%d}",
        }
    )


def _build(written: "re.Match[str]", year: str, month: str, day: str) -> datetime:
    hour = int(written["hour"] or 0)
    if written["half"]:
        if not 1 <= hour <= 12:
            raise _no_date()
        hour = hour % 12 + 12 * (written["half"][0] in "pP")
    try:
        return datetime(
            int(year),
            int(month),
            int(day),
            hour,
            int(written["minute"] or 0),
            int(written["second"] or 0),
            tzinfo=UTC,
        )
    except ValueError:
        raise _no_date() from None


def _no_date() -> ValueRefused:
    return ValueRefused(_("This is not a date such as 2026-05-31 07:46:37."))

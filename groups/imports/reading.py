"""From the bytes of an upload to rows: encodings, delimiters and broken files, in bounded memory.

Two calls: `look_at(file)` finds out once how a file is to be read and refuses what is no list of people;
`read_rows(file, layout)` then gives every row, good or bad, as often as asked and always the same.
"""

import codecs
import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import chain, islice
from typing import Any, Final, Protocol, Self

from django.utils.translation import gettext as _

from groups.imports.formats import FIELD_OF, Field, plain
from groups.imports.values import ValueRefused, read_address, shown

CHUNK: Final = 1 << 16
LONGEST_LINE: Final = 1 << 20
MOST_LINES: Final = 100  # in one quoted row; beyond that a quotation mark was forgotten
SAMPLE_LINES: Final = 100
MOST_COLUMNS: Final = 1_000
MOST_LINES_OF_A_FILE: Final = 4_000_000
DELIMITERS: Final = ",;\t|"

# A CR that ends what was read so far may be half of a CRLF.
LINE_END: Final = re.compile(r"\r\n|\n|\r(?=[^\n])")
UNDECODED: Final = re.compile("[\udc80-\udcff]")  # how surrogateescape writes a byte it could not decode
DECODED: Final = re.compile("[^\x00-\x7f\udc80-\udcff]")
REPLACED: Final = re.compile("\ufffd")
# A sign that parts cells: neither a quotation mark nor what addresses and words are made of.
SEPARATOR_LINE: Final = re.compile(r'"?sep=([\t!#$%&*,/:;<=>?^`|~\\])"?\s*', re.IGNORECASE)


class Readable(Protocol):
    """An open file of bytes; Django's `File` and the standard library's are both."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> object: ...


class FileRefused(ValueError):
    """This file cannot be imported; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one file is to be read; found once by `look_at`, small enough to be kept with the import."""

    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    skip: int  # rows before the first person: the heading, a `sep=` line
    address_column: str
    encoding_guessed: bool = False  # neither UTF-8 nor UTF-16: ask whether the names look right

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        return cls(**{**kept, "columns": tuple(kept["columns"])})


@dataclass(frozen=True, slots=True)
class Row:
    """One row, as many cells as the layout has columns. `line` is where an editor shows it."""

    line: int
    cells: list[str]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: the line, the column if one is to blame, the reason, the value cut short."""

    line: int
    column: str
    reason: str
    value: str


@dataclass(frozen=True, slots=True)
class _Record:
    line: int
    cells: list[str]
    text: str
    problem: str = ""
    ended: bool = True  # by a line end, not by the end of the file


def look_at(file: Readable) -> Layout:
    """How to read this file; goes through it once to its end, for the encoding.

    Raises `FileRefused` for what is empty, no text, or holds no column of addresses.
    """
    file.seek(0)
    head = file.read(LONGEST_LINE)
    _refuse_other_kinds(head)
    _refuse_endless(file)
    encoding, guessed = _find_encoding(file)
    lines = list(islice(_lines(BytesIO(head), encoding), SAMPLE_LINES))
    if not any(map(str.strip, lines)):
        raise FileRefused(_("This file is empty."))
    if "\x00" in lines[0]:
        raise FileRefused(_("This is not a text file. Export the list as CSV and upload that."))
    separator = SEPARATOR_LINE.fullmatch(lines[0])
    if separator:
        lines = lines[1:]
    delimiter = separator[1] if separator else _find_delimiter(lines)
    columns, people, has_heading = _find_columns(list(_records(iter(lines), delimiter)))
    return Layout(
        encoding=encoding,
        delimiter=delimiter,
        columns=columns,
        skip=bool(separator) + has_heading,
        address_column=_find_address_column(columns, people),
        encoding_guessed=guessed,
    )


def read_rows(file: Readable, layout: Layout) -> Iterator[Row | BadRow]:
    """Every row that is not blank, in order; bad ones as `BadRow`, so that none is lost. Never raises."""
    width = len(layout.columns)
    file.seek(0)
    records = _records(_lines(file, layout.encoding), layout.delimiter)
    used = (record for record in records if record.problem or any(map(str.strip, record.cells)))
    for record in islice(used, layout.skip, None):
        bad = _find_problem(record, layout)
        if bad is not None:
            yield bad
        else:
            yield Row(record.line, record.cells[:width] + [""] * (width - len(record.cells)))


def _refuse_other_kinds(head: bytes) -> None:
    """Says what it is, for the kinds of file that people upload by mistake."""
    if head.startswith(b"PK\x03\x04"):
        if b"[Content_Types].xml" in head or b"xl/" in head:
            raise FileRefused(
                _("This is an Excel workbook. Save it as CSV (comma separated) and upload that.")
            )
        raise FileRefused(_("This is a ZIP archive. Unpack it and upload the CSV inside."))
    if head.startswith(b"\x1f\x8b"):
        raise FileRefused(_("This file is compressed. Unpack it and upload the CSV inside."))
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise FileRefused(_("This is an Excel workbook. Save it as CSV and upload that."))
    if head.startswith(b"%PDF"):
        raise FileRefused(_("This is a PDF. Export the list as CSV and upload that."))
    start = head[:4096].removeprefix(codecs.BOM_UTF8).lstrip()[:15].lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise FileRefused(
            _("This is a web page, perhaps a sign-in page saved by mistake. Download the export again.")
        )


def _refuse_endless(file: Readable) -> None:
    """A person is a line; to look at fifty million empty ones would keep the server busy for minutes."""
    file.seek(0)
    feeds = returns = 0
    for chunk in _chunks(file):
        feeds += chunk.count(b"\n")
        returns += chunk.count(b"\r")
    if max(feeds, returns) > MOST_LINES_OF_A_FILE:
        raise FileRefused(
            _("This file has more than %(most)s lines. Split it, and leave out empty lines.")
            % {"most": f"{MOST_LINES_OF_A_FILE:,}"}
        )


def _find_encoding(file: Readable) -> tuple[str, bool]:
    """The encoding, and whether it was guessed.

    One wrong byte does not condemn a UTF-8 file: with UTF-8 letters elsewhere, its bad rows are reported one
    by one; with none it is what Windows programs save, cp1252.
    """
    file.seek(0)
    right = wrong = False
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for number, chunk in enumerate(_chunks(file)):
        if number == 0 and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", False
        text = decoder.decode(chunk)
        if not text.isascii():
            right = right or bool(DECODED.search(text))
            wrong = wrong or bool(UNDECODED.search(text))
    wrong = wrong or bool(decoder.decode(b"", final=True))
    return ("cp1252", True) if wrong and not right else ("utf-8-sig", False)


def _find_delimiter(lines: list[str]) -> str:
    """The one under which the headings are known ones, or, failing that, the rows hold addresses."""

    def score(delimiter: str) -> tuple[int, int, int]:
        sample = [record.cells for record in _records(iter(lines), delimiter) if any(record.cells)]
        headings = sample[0] if sample else []
        known = sum(plain(heading) in FIELD_OF for heading in headings)
        return known, sum(any(map(_is_address, cells)) for cells in sample), -len(headings)

    return max(DELIMITERS, key=score)


def _find_columns(records: list[_Record]) -> tuple[tuple[str, ...], list[list[str]], bool]:
    """The columns' labels, each of them once, the rows of people, and whether the first row was a heading."""
    used = [record for record in records if record.problem or any(map(str.strip, record.cells))]
    if not used:
        raise FileRefused(_("This file is empty."))
    first, *others = used
    if first.problem:
        raise FileRefused(
            _("Line %(line)s cannot be read. %(reason)s") % {"line": first.line, "reason": first.problem}
        )
    if len(first.cells) > MOST_COLUMNS:
        raise FileRefused(
            _("This file has more than %(most)s columns; a list of people has a few dozen.")
            % {"most": f"{MOST_COLUMNS:,}"}
        )
    people = [record.cells for record in others]
    if any(map(_is_address, first.cells)):
        return _label([""] * len(first.cells)), [first.cells, *people], False
    if not people:
        raise FileRefused(_("There are no rows of people in this file, only one line of headings."))
    return _label(first.cells), people, True


def _label(headings: list[str]) -> tuple[str, ...]:
    labels: dict[str, None] = {}
    for number, heading in enumerate(headings, start=1):
        label = shown(" ".join(heading.split())) or _("Column %(number)s") % {"number": number}
        while label in labels:
            label = f"{label} ({number})"
        labels[label] = None
    return tuple(labels)


def _find_address_column(columns: tuple[str, ...], people: list[list[str]]) -> str:
    for column in columns:
        if FIELD_OF.get(plain(column)) is Field.ADDRESS:
            return column
    found = Counter(
        index for cells in people for index, cell in enumerate(cells[: len(columns)]) if _is_address(cell)
    )
    if not found:
        raise FileRefused(
            _("No column of this file holds e-mail addresses. Its columns are: %(columns)s.")
            % {"columns": shown(", ".join(columns))}
        )
    return columns[found.most_common(1)[0][0]]


def _is_address(cell: str) -> bool:
    if "@" not in cell:
        return False
    try:
        read_address(cell)
    except ValueRefused:
        return False
    return True


def _find_problem(record: _Record, layout: Layout) -> BadRow | None:
    if record.problem:
        return BadRow(record.line, "", record.problem, shown(record.text))
    reason = sign = ""
    wrong = (REPLACED if layout.encoding == "utf-16" else UNDECODED).search(record.text)
    if "\x00" in record.text:
        reason, sign = _("There is a NUL character in this row."), "\x00"
    elif wrong:
        reason = _("Some letters of this row are in another encoding than the rest of the file.")
        sign = wrong[0]
    elif any(map(str.strip, record.cells[len(layout.columns) :])):
        reason = _(
            "This row has more cells than there are columns. Put a cell with a comma in quotation marks."
        )
    elif not record.ended and len(record.cells) < len(layout.columns):
        reason = _("The file ends in the middle of this row.")
    column = _column_with(sign, record, layout) if sign else ""
    return BadRow(record.line, column, reason, shown(record.text)) if reason else None


def _column_with(sign: str, record: _Record, layout: Layout) -> str:
    return next(
        (column for column, cell in zip(layout.columns, record.cells, strict=False) if sign in cell), ""
    )


def _records(lines: Iterator[str], delimiter: str) -> Iterator[_Record]:
    """The rows of a CSV. One that cannot be parsed costs its first line; reading goes on with the next."""
    ahead: deque[str] = deque()
    line = 1
    while True:
        taken: list[str] = []
        cells: list[str] = []
        problem = ""
        try:
            # strict: a quotation mark that is not closed, or closed too late, must raise and not swallow rows
            reader = csv.reader(
                _feed(ahead, lines, taken), delimiter=delimiter, strict=True, skipinitialspace=True
            )
            cells = next(reader, [])
        except csv.Error as error:
            problem = _explain(error)
        if not taken:
            return
        if any(len(part) > LONGEST_LINE for part in taken):
            problem = _("This line is too long to be one person.")
        if problem:
            ahead.extendleft(reversed(taken[1:]))
            taken, cells = taken[:1], []
        yield _Record(line, cells, "".join(taken), problem, ended=taken[-1].endswith(("\n", "\r")))
        line += len(taken)


def _feed(ahead: deque[str], lines: Iterator[str], taken: list[str]) -> Iterator[str]:
    """Lines for one row, noted in `taken`; no more than one row can honestly need."""
    size = 0
    while len(taken) < MOST_LINES and size <= LONGEST_LINE:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        taken.append(line)
        size += len(line)
        yield line


def _explain(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return _("A quotation mark opens in this row and is never closed.")
    if "field larger" in text:
        return _("One cell of this row is longer than 131,072 characters.")
    return _("A quotation mark stands in the wrong place in this row.")


def _chunks(file: Readable) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _lines(file: Readable, encoding: str) -> Iterator[str]:
    """The file's lines with their ends (LF, CRLF or CR); an endless one is cut just past LONGEST_LINE."""
    decoder = codecs.getincrementaldecoder(encoding)("replace" if encoding == "utf-16" else "surrogateescape")
    pending = ""
    for chunk in chain(_chunks(file), [b""]):
        pending += decoder.decode(chunk, final=not chunk)
        start = 0
        for match in LINE_END.finditer(pending):
            yield pending[start : match.end()]
            start = match.end()
        pending = pending[start:]
        if len(pending) > LONGEST_LINE:
            pending = pending[: LONGEST_LINE + 1] + ("\r" if pending.endswith("\r") else "")
    if pending:
        yield pending

"""How text travels: encoded line by line, so that what stays the same is encoded once."""

import binascii
import re
import unicodedata
from collections.abc import Callable, Sequence
from email.header import Header
from html import escape

from django.conf import settings

from messaging.words import Slots, fill, split_at_slots, tame

_UNSAFE_IN_NAMES = re.compile(r'[<>@:,"\\()\[\];]|=\?')

# Where the part of a mail that repeats begins, its one item, what stands for the items too many, and its end.
MARKS = ("also", "item", "more", "end")


# Stands for a break inside a line, until it is in its place: quoted-printable holds no such octet.
_BROKEN = b"\0"


class Lines:
    """A text in quoted-printable: lines without a slot are encoded already, the others wait for their values."""

    def __init__(self, text: str, *, encode: Callable[[str], str]) -> None:
        self._encode = encode
        # What is ready before each line that waits, and what is ready after the last of them.
        self._ready = [b""]
        # Those lines as one text: fixed pieces and the numbers of slots in turn.
        self._pieces = [""]
        for line in text.removesuffix("\n").split("\n") if text else []:
            pieces = split_at_slots(line)
            if len(pieces) == 1:
                self._ready[-1] += encode_line(line)
                continue
            self._pieces[-1] += pieces[0]
            self._pieces += [*pieces[1:-1], f"{pieces[-1]}\n"]
            self._ready.append(b"\r\n")
        self._slots = [int(slot) for slot in self._pieces[1::2]]

    def encode(self, values: Sequence[str]) -> bytes:
        pieces = self._pieces.copy()
        pieces[1::2] = [self._encode(values[slot]) for slot in self._slots]
        text = "".join(pieces)
        # All in one call: a call costs more than its line. A line that ends in a space breaks elsewhere then.
        if " \n" in text or "\t\n" in text:
            lines = [encode_line(line).removesuffix(b"\r\n") for line in text.split("\n")]
        else:
            lines = binascii.b2a_qp(text.encode(), istext=True).replace(b"=\n", _BROKEN).split(b"\n")
        parts = [part for both in zip(self._ready, lines, strict=True) for part in both]
        return b"".join(parts).replace(_BROKEN, b"=\r\n")


class Body:
    """One of a mail's two texts, with a part in it that stands there once for each thing it tells of besides.

    `marks` are the slots at which it is cut; each stands at the beginning of a line.
    """

    def __init__(self, text: str, *, marks: Sequence[str], encode: Callable[[str], str]) -> None:
        pieces = []
        for mark in marks:
            piece, _mark, text = text.partition(mark)
            pieces.append(piece)
        self._encode = encode
        self._texts = [*pieces, text]
        self._lines = [Lines(piece, encode=encode) for piece in self._texts]

    def read(self, values: Sequence[str], items: Sequence[Sequence[str]], *, more: bool) -> str:
        """The text with everybody's and each item's values in it."""
        return "".join(
            fill(self._texts[at], of, self._encode) for at, of in self._order(values, items, more=more)
        )

    def encode(self, values: Sequence[str], items: Sequence[Sequence[str]], *, more: bool) -> bytes:
        """The same in quoted-printable."""
        return b"".join(self._lines[at].encode(of) for at, of in self._order(values, items, more=more))

    def length(self, *, items: int) -> int:
        """How many octets it has with so many items, their slots left as they are."""
        before, opening, item, more, after = (len(text.encode()) for text in self._texts)
        return before + opening + items * item + more + after

    def _order(
        self, values: Sequence[str], items: Sequence[Sequence[str]], *, more: bool
    ) -> list[tuple[int, Sequence[str]]]:
        before, opening, item, too_many, after = range(5)
        if not items:
            return [(before, values), (after, values)]
        listed = [(item, of) for of in items]
        rest = [(too_many, values)] if more else []
        return [(before, values), (opening, values), *listed, *rest, (after, values)]


def mark_places(slots: Slots) -> dict[str, str]:
    """The marks at which a body is cut, by their names and in their order."""
    return {name: slots.mark(name) for name in MARKS}


def in_html(value: str) -> str:
    """A value as the text of an element, written as the inliner writes one.

    Quotes stay: nothing but our own addresses stands in an attribute, and those are plain.
    """
    return escape(value, quote=False)


def encode_line(line: str) -> bytes:
    """One line in quoted-printable with its CRLF: at most 76 octets a line on the way."""
    return binascii.b2a_qp(line.encode(), istext=True).replace(b"=\n", b"=\r\n") + b"\r\n"


def encode_header(name: str, value: str) -> str:
    """An unstructured header's value: as it is if it is plain, otherwise in encoded words, folded.

    A word has at most 75 octets, a line with one at most 76 (RFC 2047, 2); by itself Python folds at 78.
    """
    if value.isascii() and "=?" not in value and len(value) < 900:
        return value
    return Header(value, "utf-8", header_name=name, maxlinelen=76).encode(linesep="\r\n")


def display_name(name: str) -> str:
    """A creator's name as it may stand before an address: nothing in it can end the name or begin another."""
    return " ".join(_UNSAFE_IN_NAMES.sub(" ", tame(name)).split()) or settings.SITE_NAME


def tame_subject(subject: str) -> str:
    """One line without controls, up to the length that is stored."""
    if subject.isascii() and subject.isprintable():
        return " ".join(subject.split())
    return "".join(
        char for char in " ".join(subject.split()) if unicodedata.category(char) not in {"Cc", "Cs", "Co"}
    )


def without_blank_runs(text: str) -> str:
    """`text` without spaces before line ends and with at most one empty line in a row."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"

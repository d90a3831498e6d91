"""The creator's words: Markdown with placeholders, made into HTML and into text that was written, not stripped.

Nothing a creator or a member typed is ever compiled: a placeholder becomes a *slot* (two private-use characters
around a number), the words are rendered once, and each mail's values are put into the slots, encoded for where
they land.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

import nh3
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.token import Token

from accounts.unicode import is_younger_letter

# What a creator may write, and what it stands for; shown beside the editor.
PLACEHOLDERS = ("name", "first_name", "creator", "release", "group")

_PLACEHOLDER = re.compile(r"\{([^{}\n]*)\}")
_SLOT = re.compile("\ue000(\\d+)\ue001")
_TAGS = {"p", "br", "em", "strong", "a", "ul", "ol", "li", "blockquote", "h2", "h3", "hr", "code", "pre"}
_SCHEMES = {"http", "https", "mailto"}
# Bidi controls, invisible and private-use characters: nothing that could hide, turn or imitate a slot.
_UNSEEN = {"Cc", "Cs", "Co"}
_HIDING = frozenset(
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
# A mail program makes a link of these by itself, so a name that holds one is not shown.
_LINK_LIKE = re.compile(r"://|www\.|@", re.IGNORECASE)
# And of a dot between words: a space after it keeps "Dr.No" readable and "evil.com" dead.
_JOINING_DOT = re.compile(r"\.(?=[^\W\d_]{2})")
LONGEST_VALUE = 60


class WordsRefused(Exception):
    """The words cannot go out as they are; the sentence says what to change."""


@dataclass
class Slots:
    """The places in a text that each mail fills: a name and what stands there if the person has none."""

    places: list[tuple[str, str]] = field(default_factory=list)

    def mark(self, name: str, fallback: str = "") -> str:
        """A new place, as it stands in the text."""
        self.places.append((name, fallback))
        return f"\ue000{len(self.places) - 1}\ue001"

    def values(self, given: dict[str, str]) -> list[str]:
        """What stands in each place for one person."""
        return [given.get(name) or fallback for name, fallback in self.places]

    def fixed(self, given: dict[str, str]) -> list[str | None]:
        """What stands in the places that are the same for everybody, None for the others."""
        return [given.get(name) for name, _fallback in self.places]


def split_at_slots(text: str) -> list[str]:
    """The text between the slots and the slots' numbers, in turn."""
    return _SLOT.split(text)


def fill(text: str, values: Sequence[str | None], encode: Callable[[str], str] = str) -> str:
    """`text` with each slot's value in it, encoded for where it lands; a slot whose value is None stays."""

    def value(slot: re.Match[str]) -> str:
        found = values[int(slot[1])]
        return slot[0] if found is None else encode(found)

    return _SLOT.sub(value, text)


def read_placeholders(text: str, slots: Slots) -> str:
    """`text` with a slot for each placeholder. `{first_name|friend}` says what stands there for who has no name. Raises `WordsRefused`."""

    def slot(found: re.Match[str]) -> str:
        name, _bar, fallback = found[1].partition("|")
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
            raise WordsRefused(
                _("There is no placeholder {%(name)s}. You can use %(known)s.")
                % {"name": name[:40], "known": known}
            )
        return slots.mark(name, tame(fallback) or _usual(name))

    return _PLACEHOLDER.sub(slot, text)


@lru_cache(maxsize=1024)
def tame(value: str) -> str:
    """A value from outside as it may stand in a mail: one line, nothing hidden, not too long, no link."""
    shown = " ".join(value.split())
    if len(shown) <= LONGEST_VALUE and shown.isascii() and shown.isprintable():
        # As most are, and a million are asked: nothing below would change it.
        return shown
    shown = unicodedata.normalize("NFC", shown)
    shown = "".join(
        char for char in shown if char not in _HIDING and not _is_unseen(char) and not char >= "\U000e0000"
    )
    shown = " ".join(shown.split())
    if len(shown) > LONGEST_VALUE:
        shown = shown[:LONGEST_VALUE].rstrip("\u200d") + "…"
    return shown


def tame_name(value: str) -> str:
    """A member's name, or nothing if it would become a link in somebody's mail program."""
    return "" if _LINK_LIKE.search(value) else tame(_JOINING_DOT.sub(". ", value))


def clean_source(text: str) -> str:
    """What a creator typed, with line ends of one kind and without characters that could imitate a slot."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in lines if char in "\n\t" or not _is_unseen(char))


def to_html(source: str) -> str:
    """Markdown with slots as safe HTML. Raises `WordsRefused` for a link that may not stand in a mail."""
    html = nh3.clean(
        _markdown().render(source),
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes=_SCHEMES,
        link_rel=None,
    )
    if len(_SLOT.findall(html)) != len(_SLOT.findall(source)):
        raise WordsRefused(
            _("A placeholder cannot be part of a link's address. Put it into the words around it.")
        )
    return html


def to_text(source: str) -> str:
    """Markdown with slots as plain text for people: lists with their marks, links with their address."""
    return "\n\n".join(_blocks(_markdown().parse(source)))


def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True})
    # No pictures: files and thumbnails are private, and a remote one would tell its server who reads.
    markdown.disable("image")
    # The mail has its own title: a creator's headings stand below it.
    markdown.validateLink = _link_allowed
    markdown.core.ruler.push("headings", _lower_headings)
    return markdown


def _lower_headings(state: object) -> None:
    for token in state.tokens:  # type: ignore[attr-defined]
        if token.type.startswith("heading_"):
            token.tag = "h2" if token.tag in {"h1", "h2"} else "h3"


def _link_allowed(url: str) -> bool:
    """Whether a link may stand in a mail. Raises `WordsRefused`: silently it would stay as odd text."""
    shown = {"url": url[:80]}
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme == "mailto":
        return True
    if parts.scheme not in _SCHEMES or not host:
        raise WordsRefused(
            _("The link “%(url)s” needs its full address, beginning with https:// or mailto:.") % shown
        )
    if "@" in parts.netloc or "\\" in url:
        raise WordsRefused(
            _("The link “%(url)s” hides where it goes: before the host's name there is an @ or a \\.") % shown
        )
    return True


def _blocks(tokens: Sequence[Token]) -> list[str]:
    """The paragraphs of a flat run of block tokens."""
    blocks: list[str] = []
    fresh = False
    # One entry for each list or quotation we are in: what its next item or line begins with.
    open_in: list[list[str | int]] = []
    for token in tokens:
        match token.type:
            case "bullet_list_open":
                open_in.append(["-", 0])
            case "ordered_list_open":
                open_in.append(["1", int(token.attrGet("start") or 1) - 1])
            case "blockquote_open":
                open_in.append([">", 0])
            case "bullet_list_close" | "ordered_list_close" | "blockquote_close":
                open_in.pop()
            case "list_item_open":
                open_in[-1][1] = int(open_in[-1][1]) + 1
                fresh = True
            case "hr":
                blocks.append("* * *")
            case "inline" | "code_block" | "fence":
                words = _inline(token.children) if token.children else token.content.rstrip("\n")
                if not open_in:
                    blocks.append(words)
                    continue
                kind, number = open_in[-1]
                quoted = kind == ">"
                mark = "> " if quoted else "- " if kind == "-" else f"{number}. "
                first = mark if quoted or fresh else " " * len(mark)
                further = mark if quoted else " " * len(mark)
                indent = "  " * (len(open_in) - 1)
                lines = words.split("\n")
                block = "\n".join(indent + (further if at else first) + line for at, line in enumerate(lines))
                # Items of a list stand close together.
                if not quoted and blocks and fresh and number != 1:
                    blocks[-1] += "\n" + block
                else:
                    blocks.append(block)
                fresh = False
    return blocks


def _inline(tokens: Iterable[Token]) -> str:
    """The words of a paragraph; a link's address follows it unless it is what one reads anyway."""
    words: list[str] = []
    href, begins = "", 0
    for token in tokens:
        match token.type:
            case "link_open":
                href, begins = str(token.attrGet("href")), len(words)
            case "link_close":
                read = "".join(words[begins:])
                if href.removeprefix("mailto:") != read and href != read:
                    words.append(f" ({href.removeprefix('mailto:')})")
            case "softbreak" | "hardbreak":
                words.append("\n")
            case "strong_open" | "strong_close":
                words.append("*")
            case _:
                words.append(token.content)
    return "".join(words)


def _is_unseen(char: str) -> bool:
    category = unicodedata.category(char)
    return not is_younger_letter(char) if category == "Cn" else category in _UNSEEN


def _usual(name: str) -> str:
    return str(_("friend")) if name in {"name", "first_name"} else ""

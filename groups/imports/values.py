"""Cells of a stranger's file, made safe: addresses, names, dates. Nothing here raises but `ValueRefused`."""

import re
import unicodedata
from dataclasses import dataclass

from django.utils.translation import gettext as _

from accounts.addresses import AddressRefused, address_key
from accounts.unicode import is_never_a_letter, is_younger_letter

LONGEST_NAME = 120  # letters as a reader counts them
LONGEST_STORED = 200  # characters as the database counts them
LONGEST_SHOWN = 80
# A base letter rarely carries more than two marks in any script; a hundred of them is an attack on the page.
MOST_MARKS = 4

LONGEST_OUTSIDE_ID = 120

RELAYS = {"privaterelay.appleid.com", "relay.firefox.com", "mozmail.com", "duck.com", "simplelogin.com"}
DISPOSABLE = {
    "10minutemail.com",
    "guerrillamail.com",
    "mailinator.com",
    "sharklasers.com",
    "temp-mail.org",
    "trashmail.com",
    "yopmail.com",
}
# RFC 2142 names most of these.
ROLES = {
    "abuse",
    "admin",
    "billing",
    "contact",
    "hello",
    "help",
    "info",
    "mail",
    "marketing",
    "noreply",
    "no-reply",
    "office",
    "postmaster",
    "sales",
    "security",
    "support",
    "team",
    "webmaster",
}

NAMED_ADDRESS = re.compile(r"^(?P<name>[^<>]*)<(?P<address>[^<>]*)>$")
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Joiners spell words in Persian and Hindi and hold emoji together; after anything else they only hide.
JOINERS = {"\u200c", "\u200d"}
JOINABLE = {"Lo", "So", "Sk", "Mn"}


class ValueRefused(ValueError):
    """This cell cannot be used; the sentence says why."""


@dataclass(frozen=True, slots=True)
class NamedAddress:
    """What an address cell held: the key, and the name if it was written `Bob <a@b>`."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class CleanName:
    """A name fit to show and to mail; `changed` if more than white space was taken away."""

    text: str
    changed: bool


def read_address(cell: str) -> NamedAddress:
    """`a@b`, `<a@b>`, `Bob <a@b>` or `mailto:a@b`. Raises `ValueRefused` for anything else."""
    text = cell.strip()
    name = ""
    if named := NAMED_ADDRESS.match(text):
        name, text = named["name"].strip().strip('"'), named["address"].strip()
    if text[:7].lower() == "mailto:":
        text = text[7:].partition("?")[0]
    if text.count("@") > 1 and re.search(r"[;,\s/|]", text):
        raise ValueRefused(_("There is more than one address here. Give each its own row."))
    try:
        return NamedAddress(address_key(text), name)
    except AddressRefused as refused:
        raise ValueRefused(str(refused)) from refused


def read_name(cell: str) -> CleanName:
    """The name without characters that hide, turn or pile up text, at most `LONGEST_NAME` letters.

    Raises `ValueRefused` for a line break or NUL inside it: such a name would break the head of every mail.
    """
    text = cell.strip()
    if any(sign in text for sign in "\r\n\x00\u2028\u2029"):
        raise ValueRefused(_("There is a line break in this name."))
    whole = unicodedata.normalize("NFC", " ".join(text.split()))
    # What was taken out may have parted blanks, or a letter from its mark.
    clean = unicodedata.normalize("NFC", " ".join(_cut(whole).split()))
    return CleanName(clean, changed=clean != whole)


def read_outside_id(cell: str) -> str:
    """Another platform's id of a person. Raises `ValueRefused` for what is too long or not printable."""
    text = cell.strip()
    if len(text) > LONGEST_OUTSIDE_ID or not all(map(_is_visible, text)):
        raise ValueRefused(_("This is not the id of a member."))
    return text


def hint_of(key: str) -> str:
    """What is worth knowing of an address: "relay", "disposable", "role" or nothing."""
    local, _at, domain = key.rpartition("@")
    if domain in RELAYS:
        return "relay"
    if domain in DISPOSABLE:
        return "disposable"
    return "role" if local in ROLES else ""


def shown(value: str) -> str:
    """A bad value as a problem list may show it: visible, on one line, cut."""
    visible = "".join(letter if _is_visible(letter) else "\ufffd" for letter in value[: LONGEST_SHOWN + 1])
    return visible if len(visible) <= LONGEST_SHOWN else visible[: LONGEST_SHOWN - 1] + "…"


def _is_visible(sign: str) -> bool:
    return is_younger_letter(sign) or sign.isprintable()


def _cut(text: str) -> str:
    """What is visible of `text`, at most LONGEST_NAME letters; marks and joined emoji stay with their own."""
    kept: list[str] = []
    letters = marks = 0
    before = ""  # the category of the sign kept last
    for sign in text:
        category = unicodedata.category(sign)
        if sign in JOINERS:
            if before not in JOINABLE:
                continue
        elif category in INVISIBLE or is_never_a_letter(sign):
            continue
        if sign in JOINERS or category in {"Mn", "Me"}:
            marks += 1
            if marks > MOST_MARKS:
                continue
        elif not (kept and kept[-1] == "\u200d"):
            letters, marks = letters + 1, 0
        if letters > LONGEST_NAME or len(kept) == LONGEST_STORED:
            break
        kept.append(sign)
        before = category
    return "".join(kept)

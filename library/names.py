"""Names that are safe on everybody's disk: Windows, macOS and Linux, in a ZIP, in a header, on a page."""

import unicodedata
from collections.abc import Iterable

from django.utils.translation import gettext as _

from accounts.unicode import is_younger_letter

SEGMENT_BYTES = 255
PATH_CHARACTERS = 500
DEPTH = 16

# What Windows will not store. https://learn.microsoft.com/windows/win32/fileio/naming-a-file
FORBIDDEN = frozenset('<>:"|?*')
RESERVED = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"]
)
# Joiners that emoji and several scripts are written with; every other format character can only mislead.
JOINERS = frozenset("\u200c\u200d")

# Letters by their category, and nothing to be seen: fillers of Hangul.
BLANKS = frozenset("\u115f\u1160\u3164\uffa0")


class NameRefused(Exception):
    """A path that some disk, archive or reader would take for something else."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(_("“%(name)s” cannot be used: %(why)s") % {"name": shown(name), "why": why})


def safe_path(raw: str) -> str:
    """The path to store for `raw`: `folder/name.ext`, NFC, folders kept, at most 500 characters.

    Slashes of both kinds part the folders; empty and `.` parts and blanks and dots at a part's end are dropped,
    as Windows does. Everything else that is not safe raises NameRefused: a name is never changed silently
    into another one.
    """
    normal = unicodedata.normalize("NFC", raw).replace("\\", "/")
    segments = [_safe_segment(raw, part) for part in normal.split("/") if part.strip() not in {"", "."}]
    path = "/".join(segments)
    if not segments:
        raise NameRefused(raw, _("a file needs a name."))
    if len(segments) > DEPTH:
        raise NameRefused(raw, _("its folders are nested too deep; %(n)d are allowed.") % {"n": DEPTH})
    if max(len(path), len(path_key(path))) > PATH_CHARACTERS:
        raise NameRefused(
            raw, _("with its folders it is longer than %(n)d characters.") % {"n": PATH_CHARACTERS}
        )
    return path


def path_key(path: str) -> str:
    """What two paths share if a disk that ignores case would keep only one of them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def folder_name(title: str, *, taken: Iterable[str] = ()) -> str:
    """`title` as the name of a folder on every disk, and unlike those `taken` already."""
    plain = "".join(" " if char in FORBIDDEN | set("/\\") or not _is_plain(char) else char for char in title)
    plain = unicodedata.normalize("NFC", " ".join(plain.split())).strip(". ")
    while len(plain.encode()) > 120:
        plain = plain[:-1].rstrip(". ")
    if not plain or plain.partition(".")[0].rstrip().casefold() in RESERVED:
        plain = f"{plain} files".strip()
    keys, name, number = {path_key(one) for one in taken}, plain, 2
    while path_key(name) in keys:
        name, number = f"{plain} ({number})", number + 1
    return name


def shown(name: str) -> str:
    """`name` for a sentence: nothing invisible in it, and short."""
    short = name if len(name) <= 80 else f"{name[:60]}…{name[-19:]}"
    return "".join(char if _is_plain(char) else "�" for char in short)


def _safe_segment(raw: str, part: str) -> str:
    if part.strip() == "..":
        raise NameRefused(raw, _("it points outside its folder."))
    if not all(_is_plain(char) for char in part):
        raise NameRefused(raw, _("it contains invisible or control characters. Type the name anew."))
    if found := sorted(FORBIDDEN & set(part)):
        raise NameRefused(
            raw, _("Windows cannot store the character %(char)s in a name.") % {"char": found[0]}
        )
    part = part.strip().rstrip(". ")
    if not part or part.startswith("."):
        raise NameRefused(raw, _("a name that starts with a dot is a hidden file on many computers."))
    if part.partition(".")[0].rstrip().casefold() in RESERVED:
        raise NameRefused(raw, _("Windows keeps this name for itself. Give it another one."))
    if len(part.encode()) > SEGMENT_BYTES:
        raise NameRefused(
            raw, _("it is too long. Shorten it to %(n)d letters or fewer.") % {"n": SEGMENT_BYTES}
        )
    return part


def _is_plain(char: str) -> bool:
    """Neither a control, nor invisible, nor a change of direction, nor half a character (a lone surrogate).

    A letter that Unicode took up after this Python was made is as good as any other; what Unicode keeps for
    characters nobody sees, and what will never be a character, is not.
    """
    category = unicodedata.category(char)
    if category == "Cn":
        return is_younger_letter(char)
    return char in JOINERS or (category not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} and char not in BLANKS)

"""What a file is, by its own bytes: the name only says what it should be, the browser's word is not asked."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from library.names import shown
from library.programs import begins_like_a_program, is_program
from library.three_mf import is_3mf
from library.zips import Contents, Reader, ZipRefused, begins_like_a_zip, read_zip, warnings_about

HEAD = 64 * 1024

# kind -> (what it is called, the type it is served with). Everything else is a plain "file".
KINDS = {
    "stl": (gettext_lazy("STL model"), "model/stl"),
    "3mf": (gettext_lazy("3MF model"), "model/3mf"),
    "obj": (gettext_lazy("OBJ model"), "model/obj"),
    "glb": (gettext_lazy("GLB model"), "model/gltf-binary"),
    "zip": (gettext_lazy("ZIP archive"), "application/zip"),
    "pdf": (gettext_lazy("PDF document"), "application/pdf"),
    "png": (gettext_lazy("PNG picture"), "image/png"),
    "jpeg": (gettext_lazy("JPEG picture"), "image/jpeg"),
    "webp": (gettext_lazy("WebP picture"), "image/webp"),
    "gif": (gettext_lazy("GIF picture"), "image/gif"),
    "text": (gettext_lazy("text file"), "text/plain; charset=utf-8"),
    "file": (gettext_lazy("file"), "application/octet-stream"),
}
SUFFIXES = {kind: kind for kind in KINDS if kind not in {"text", "file"}} | {
    "jpg": "jpeg",
    "txt": "text",
    "md": "text",
}
PICTURES = frozenset({"png", "jpeg", "webp", "gif"})
SPLIT = re.compile(r"\.(z\d\d|r\d\d|\d{3}|part\d+\.rar)$", re.IGNORECASE)
# What lines of an OBJ begin with, of those a model cannot do without (the format's section “Vertex data” and on).
OBJ_LINE = re.compile(
    rb"(?:^|[\r\n])[ \t]*(?:v|vt|vn|vp|p|l|f|g|o|s|cstype|deg|curv2?|surf|mtllib|usemtl|call)[ \t]"
)
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_32_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")


class FileRefused(Exception):
    """A file that must not be handed on: a program, a trap, or not what its name says."""


class ProgramRefused(FileRefused):
    """A program or a script: neither is given here, alone or in a ZIP."""

    def __init__(self, name: str) -> None:
        super().__init__(
            _("“%(name)s” is a program. Programs and scripts cannot be given.") % {"name": shown(name)}
        )


@dataclass(frozen=True)
class Finding:
    kind: str
    warning: str = ""


def content_type(kind: str) -> str:
    return KINDS.get(kind, KINDS["file"])[1]


def identify(path: str, size: int, read: Reader) -> Finding:
    """The kind of a file of `size` bytes named `path`, and what its creator should know about it (F6).

    Reads its first 64 kB, of a ZIP the list at its end too. Raises FileRefused with a sentence: for programs,
    for content that is not what the name says, for ZIPs that are damaged or would do harm.
    """
    name = PurePosixPath(path).name
    promised = SUFFIXES.get(PurePosixPath(name).suffix.casefold()[1:])
    head = read(0, min(HEAD, size))
    if is_program(path) or begins_like_a_program(head):
        raise ProgramRefused(name)
    try:
        kind, contents = _kind(head, size, read, promised)
    except ZipRefused as refused:
        if promised in {"zip", "3mf"}:
            raise FileRefused(f"“{shown(name)}”: {refused}") from refused
        # A format of somebody's own that begins like a ZIP: its reader, not we, knows its rules.
        kind, contents = "file", None
    if promised is None:
        kind = kind if "." not in name else "file"
    elif kind != promised and not {kind, promised} <= PICTURES:
        raise FileRefused(_lie(name, promised, kind))
    return Finding(kind, " ".join(_warnings(path, head, size, kind, contents))[:300])


def _kind(head: bytes, size: int, read: Reader, promised: str | None) -> tuple[str, Contents | None]:
    """What the bytes are. Some are two things at once (any OBJ is a text): then the name decides."""
    if begins_like_a_zip(head):
        contents = read_zip(read, size)
        return ("3mf" if promised != "zip" and is_3mf(contents, read) else "zip"), contents
    fits = {
        "stl": _stl_fits(head, size),
        "png": head.startswith(b"\x89PNG\r\n\x1a\n"),
        "jpeg": head.startswith(b"\xff\xd8\xff"),
        "webp": head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        "gif": head[:6] in {b"GIF87a", b"GIF89a"},
        "pdf": b"%PDF-" in head[:1024],
        "glb": head[:4] == b"glTF" and _uint(head, 8) == size,
        "text": _is_text(head),
        "obj": promised == "obj" and _is_text(head) and _obj_fits(head, size),
    }
    if promised and fits.get(promised):
        return promised, None
    return next((kind for kind, fit in fits.items() if fit), "file"), None


def _stl_fits(head: bytes, size: int) -> bool:
    """Binary: 80 bytes, a count, 50 bytes a triangle (some exporters add a little); ASCII: `solid` and a facet."""
    triangles = _uint(head, 80)
    if len(head) >= 84 and 84 + 50 * triangles == size:
        return True
    if _is_text(head):
        return head.removeprefix(UTF8_MARK).lstrip()[:5].lower() == b"solid" and (
            b"facet" in head or b"endsolid" in head
        )
    return triangles > 0 and 0 < size - (84 + 50 * triangles) < 1024


def _obj_fits(head: bytes, size: int) -> bool:
    """One line of a model, however lines end; or nothing but comments as far as we read, in one that is longer."""
    if OBJ_LINE.search(head.removeprefix(UTF8_MARK)):
        return True
    lines = head.removeprefix(UTF8_MARK).splitlines()[:-1]
    return size > HEAD and all(line.lstrip()[:1] in {b"", b"#"} for line in lines)


def _is_text(head: bytes) -> bool:
    """Without NULs, unless it says by its first bytes that it is UTF-16 or UTF-32; and not empty."""
    return bool(head) and (b"\0" not in head or head.startswith(UTF16_32_MARKS))


def _uint(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<L", data, at)[0]) if len(data) >= at + 4 else 0


def _lie(name: str, promised: str, kind: str) -> str:
    words = {"name": shown(name), "promised": KINDS[promised][0], "kind": KINDS[kind][0]}
    if kind == "file":
        return _("“%(name)s” is damaged, or it is no %(promised)s.") % words
    return _("“%(name)s” should be a %(promised)s, but what is in it is a %(kind)s.") % words


def _warnings(path: str, head: bytes, size: int, kind: str, contents: Contents | None) -> Iterator[str]:
    if SPLIT.search(path):
        yield _("One piece of a split archive: people need every piece to open it.")
    if "__MACOSX" in path.split("/"):
        yield _("A hidden macOS file: most people see it as clutter.")
    if kind == "stl" and b"\0" in head and 84 + 50 * _uint(head, 80) != size:
        yield _("Has something after its last triangle: some programs may not open it.")
    if kind == "zip" and contents is not None:
        yield from warnings_about(contents)

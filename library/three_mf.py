"""Whether a ZIP is a 3MF: an Open Packaging package whose relationships name a 3D model.

3MF Core Specification 1.3, section 2.1, and ECMA-376 part 2, section 9.3: the model may lie anywhere.
"""

import posixpath
import re
from collections.abc import Iterator
from urllib.parse import unquote
from xml.parsers.expat import ExpatError, ParserCreate

from library.zips import Contents, Reader, first_bytes

RELATIONSHIPS = "_rels/.rels"
MODEL = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
# Where every program puts it: enough for one whose relationships cannot be read.
USUAL_PLACE = re.compile(r"3d/[^/]+\.model")
# The list of a package's own parts is a few hundred bytes long.
MAX_LIST = 256 * 1024


class _Declaration(Exception):
    """A document type: Open Packaging forbids it, and what it could declare may grow without bound."""


def is_3mf(contents: Contents, read: Reader) -> bool:
    """Whether its relationships, or the usual place, lead to a model that is there. Part names ignore case."""
    parts = {name.casefold() for name in contents.names}
    if any(USUAL_PLACE.fullmatch(part) for part in parts):
        return True
    listed = next((entry for entry in contents.entries if entry.name.casefold() == RELATIONSHIPS), None)
    if listed is None or listed.encrypted or listed.size > MAX_LIST:
        return False
    try:
        return any(target in parts for target in _models(first_bytes(read, listed, MAX_LIST)))
    except (ExpatError, _Declaration, ValueError):
        return False


def _models(relationships: bytes) -> Iterator[str]:
    """Where the package says that its models lie, from its root on."""
    found: list[str] = []

    def element(tag: str, said: dict[str, str]) -> None:
        if tag.rpartition(" ")[2] == "Relationship" and said.get("Type") == MODEL:
            found.append(said.get("Target", ""))

    def declaration(*_said: object) -> None:
        raise _Declaration

    parser = ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = element
    parser.StartDoctypeDeclHandler = declaration
    parser.Parse(relationships, True)
    for target in found:
        yield posixpath.normpath(f"/{unquote(target)}").lstrip("/").casefold()

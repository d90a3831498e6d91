"""What the web is told about a file: its name, safely, and nothing a browser could run."""

import unicodedata
from urllib.parse import quote


def content_disposition(filename: str) -> str:
    """`attachment` with a plain name for old clients and the real one by RFC 5987.

    The plain one keeps printable ASCII without quotes, backslashes, percent signs and semicolons, so no
    client can read it two ways.
    """
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    plain = "".join("_" if char in '"\\%;/' or not char.isprintable() else char for char in plain)
    if not plain.rpartition(".")[0].strip(" ."):
        plain = f"file{plain}" if plain.startswith(".") else plain or "file"
    value = f'attachment; filename="{plain}"'
    if plain != filename:
        value += f"; filename*=UTF-8''{quote(filename, safe='')}"
    return value

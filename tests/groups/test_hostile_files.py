"""Files nobody exported: what they claim about themselves is not believed."""

import io
import json
from datetime import datetime

import pytest

from accounts.models import User
from groups.imports.reading import MOST_LINES_OF_A_FILE, FileRefused, Row, look_at, read_rows
from groups.models import Group, Import
from tests.groups.flow import opened


@pytest.mark.parametrize("sign", [b"\x81", b"\xff", b'"', b"\r", b"\xed\xa0\x80", b"\x01", b"a", b"@"])
def test_a_separator_that_can_be_none_is_not_kept(
    patrons: Group, owner: User, now: datetime, sign: bytes
) -> None:
    content = b"sep=" + sign + b"\nEmail" + sign + b"Name\nann@example.org" + sign + b"Ann\n"
    try:
        opened(patrons, content, by=owner, now=now)
    except FileRefused:
        assert not Import.objects.exists()
    else:
        kept = Import.objects.get().layout
        assert kept["delimiter"] in ",;\t|"
        assert json.dumps(kept, ensure_ascii=False).encode()


@pytest.mark.parametrize("sign", [";", "\t", "|", "^", ":", "~"])
def test_any_sign_that_parts_cells_may_be_named(sign: str) -> None:
    assert look_at(io.BytesIO(f"sep={sign}\nEmail{sign}Name\na@b.co{sign}A\n".encode())).delimiter == sign


def test_headings_that_imitate_the_number_we_give_keep_their_own_columns() -> None:
    file = io.BytesIO(b"Email,Name (3),Name,Name\na@b.co,x,y,z\n")
    layout = look_at(file)
    assert len(set(layout.columns)) == len(layout.columns) == 4
    (row,) = read_rows(file, layout)
    assert isinstance(row, Row)
    assert row.cells == ["a@b.co", "x", "y", "z"]
    imitated = look_at(io.BytesIO(b"Email,Name,Name (4),Name\na@b.co,x,y,z\n"))
    assert len(imitated.columns) == 4


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b"\n\x00"])
def test_a_file_of_nothing_but_lines_is_refused_at_a_glance(end: bytes) -> None:
    file = io.BytesIO(b"Email\nann@example.org\n" + end * (MOST_LINES_OF_A_FILE + 1))
    with pytest.raises(FileRefused, match="4,000,000 lines"):
        look_at(file)

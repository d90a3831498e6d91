"""What people upload: every encoding, delimiter and broken file ends in rows or in a sentence."""

import csv
import gzip
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groups.imports import reading
from groups.imports.reading import BadRow, FileRefused, Layout, Row, look_at, read_rows

TWO = "Name,Email\nÉloïse,eloise@example.org\nBob,bob@example.org\n"


def read(content: bytes) -> tuple[Layout, list[Row | BadRow]]:
    file = io.BytesIO(content)
    layout = look_at(file)
    return layout, list(read_rows(file, layout))


def good(content: bytes) -> list[list[str]]:
    _layout, rows = read(content)
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert not bad
    return [row.cells for row in rows if isinstance(row, Row)]


def bad(content: bytes) -> list[BadRow]:
    return [row for row in read(content)[1] if isinstance(row, BadRow)]


def refusal(content: bytes) -> str:
    with pytest.raises(FileRefused) as refused:
        look_at(io.BytesIO(content))
    return str(refused.value)


BOTH = [["Éloïse", "eloise@example.org"], ["Bob", "bob@example.org"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_usual_encoding_gives_the_same_rows(encoding: str) -> None:
    assert good(TWO.encode(encoding)) == BOTH


def test_utf_16_of_either_byte_order_is_read() -> None:
    assert good(b"\xff\xfe" + TWO.encode("utf-16-le")) == BOTH
    assert good(b"\xfe\xff" + TWO.encode("utf-16-be")) == BOTH


def test_a_guessed_encoding_says_so_and_a_sure_one_does_not() -> None:
    assert read(TWO.encode("cp1252"))[0].encoding_guessed
    assert not read(TWO.encode("utf-8"))[0].encoding_guessed


def test_one_row_in_another_encoding_is_reported_and_the_others_are_read() -> None:
    content = TWO.encode() + "Zoë,zoe@example.org\n".encode("cp1252") + b"Uma,uma@example.org\n"

    _layout, rows = read(content)

    assert [row.line for row in rows if isinstance(row, Row)] == [2, 3, 5]
    [problem] = [row for row in rows if isinstance(row, BadRow)]
    assert (problem.line, problem.column) == (4, "Name")
    assert problem.value == "Zo�,zoe@example.org�"


def test_a_broken_utf_16_row_is_reported() -> None:
    content = "Email\na@example.org\n".encode("utf-16") + b"\x00\xd8\n\x00"

    assert [problem.line for problem in bad(content)] == [3]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_usual_delimiter_is_found(delimiter: str) -> None:
    assert good(TWO.replace(",", delimiter).encode()) == BOTH


def test_a_sep_line_names_the_delimiter() -> None:
    layout, rows = read(b"sep=;\r\n" + TWO.replace(",", ";").replace("\n", "\r\n").encode())

    assert layout.columns == ("Name", "Email")
    assert [row.line for row in rows] == [3, 4]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_one(end: str) -> None:
    assert good(TWO.replace("\n", end).encode()) == BOTH
    assert good(TWO.replace("\n", end).rstrip().encode()) == BOTH


def test_an_address_list_needs_no_heading() -> None:
    layout, rows = read(b"ana@example.org\nbob@example.org\n")

    assert (layout.columns, layout.address_column) == (("Column 1",), "Column 1")
    assert len(rows) == 2


def test_a_one_column_list_with_a_heading_has_rows_below_it() -> None:
    layout, rows = read(b"email\nana@example.org\n")

    assert (layout.columns, len(rows)) == (("email",), 1)


def test_columns_without_a_heading_are_found_by_their_addresses() -> None:
    layout, rows = read(b"Ana;ana@example.org\nBob;bob@example.org\n")

    assert (layout.columns, layout.address_column) == (("Column 1", "Column 2"), "Column 2")
    assert len(rows) == 2


def test_headings_in_another_language_are_kept_for_the_mapping() -> None:
    layout, rows = read("Nom;Courriel;Palier\nZoë;zoe@example.org;Or\n".encode())

    assert layout.columns == ("Nom", "Courriel", "Palier")
    assert (layout.address_column, len(rows)) == ("Courriel", 1)


def test_headings_that_come_twice_or_are_empty_get_names_of_their_own() -> None:
    layout, _rows = read(b"Email,Email,,=cmd|'/c calc'!A1\na@example.org,b@example.org,,x\n")

    assert layout.columns == ("Email", "Email (2)", "Column 3", "=cmd|'/c calc'!A1")
    assert layout.address_column == "Email"


def test_blank_lines_are_no_rows() -> None:
    assert good(b"\n\nName,Email\n\nBob,bob@example.org\n,,\n\n") == [["Bob", "bob@example.org"]]


def test_missing_cells_are_empty_and_empty_extra_cells_are_nothing() -> None:
    assert good(b"Email,Name,Note\na@example.org\nb@example.org,B,n,,\n") == [
        ["a@example.org", "", ""],
        ["b@example.org", "B", "n"],
    ]


def test_a_row_with_more_cells_than_columns_is_reported() -> None:
    [problem] = bad(b"Name,Email\nMoreau, Ana,ana@example.org\nBob,bob@example.org\n")

    assert problem.line == 2
    assert "more cells" in problem.reason


def test_a_file_that_ends_inside_a_row_says_so() -> None:
    [problem] = bad(b"Email,Name,Tier\na@example.org,A,Gold\nb@example.or")

    assert (problem.line, problem.value) == (3, "b@example.or")


def test_a_quoted_cell_may_hold_line_breaks_and_delimiters() -> None:
    assert good(b'Name,Email,Street\nAna,ana@example.org,"1 Mill Lane,\r\nTown ""X"""\n') == [
        ["Ana", "ana@example.org", '1 Mill Lane,\r\nTown "X"']
    ]


def test_an_unclosed_quotation_mark_costs_one_row_and_swallows_none() -> None:
    many = "".join(f"person{n},person{n}@example.org\n" for n in range(300))

    _layout, rows = read(f'Name,Email\n"Ana,ana@example.org\n{many}'.encode())

    assert isinstance(rows[0], BadRow)
    assert (rows[0].line, len(rows)) == (2, 301)
    assert "never closed" in rows[0].reason


def test_a_quotation_mark_closed_too_late_costs_one_row() -> None:
    _layout, rows = read(b'Name,Email\n"Ana,ana@example.org\n"Bob",bob@example.org\nCy,cy@example.org\n')

    assert [(type(row).__name__, row.line) for row in rows] == [("BadRow", 2), ("Row", 3), ("Row", 4)]


def test_a_nul_is_reported_with_its_column() -> None:
    [problem] = bad(b"Name,Email\nA\x00na,ana@example.org\nBob,bob@example.org\n")

    assert (problem.line, problem.column, problem.value) == (2, "Name", "A�na,ana@example.org�")


def test_a_cell_of_200_kilobytes_is_reported_and_cut() -> None:
    [problem] = bad(b"Name,Email\n" + b"x" * 200_000 + b",a@example.org\nBob,bob@example.org\n")

    assert problem.line == 2
    assert "131,072" in problem.reason
    assert len(problem.value) == 80


def test_an_endless_line_is_reported_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE", 1_000)
    content = b"Name,Email\r" + b"x," * 50_000 + b"\rBob,bob@example.org\r"

    _layout, rows = read(content)

    assert [(type(row).__name__, row.line) for row in rows] == [("BadRow", 2), ("Row", 3)]


def test_an_endless_line_inside_quotation_marks_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE", 1_000)
    content = b'Name,Email\n"Ana\n' + b"x," * 50_000 + b'",a@example.org\nBob,bob@example.org\n'

    assert [(type(row).__name__, row.line) for row in read(content)[1]] == [
        ("BadRow", 2),
        ("BadRow", 3),
        ("Row", 4),
    ]


def test_ten_thousand_columns_are_refused_with_a_sentence() -> None:
    assert "1,000 columns" in refusal(b"Email" + b",more" * 9_999 + b"\na@example.org\n")


def test_a_broken_heading_is_refused_with_its_line() -> None:
    assert refusal(b'Name,"Email\na,a@example.org\n').startswith("Line 1 cannot be read.")


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"sep=;\n;\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file_is_refused(content: bytes) -> None:
    assert refusal(content) == "This file is empty."


def test_headings_alone_are_refused() -> None:
    assert "only one line of headings" in refusal(b"Name,Email\n")
    assert "no rows" in refusal(b"sep=;\nName;Email\n")


def test_a_file_without_addresses_names_its_columns() -> None:
    assert refusal(b"Name,Tier\nAna,Gold\n") == (
        "No column of this file holds e-mail addresses. Its columns are: Name, Tier."
    )


def workbook(entry: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(entry, "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (workbook("[Content_Types].xml"), "Excel"),
        (workbook("members.csv"), "ZIP"),
        (gzip.compress(TWO.encode(), mtime=0), "compressed"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel"),
        (b"%PDF-1.7", "PDF"),
        (b"\n  <!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbf<html>", "web page"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "No column"),
        (b"\x00\x01\x02", "not a text file"),
    ],
)
def test_what_is_no_csv_is_refused_by_its_name(content: bytes, word: str) -> None:
    assert word in refusal(content)


class Dribble:
    """A file that gives as little at a time as it likes."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self.content, self.sizes, self.at, self.turn = content, sizes, 0, 0

    def read(self, size: int, /) -> bytes:
        size = min(size, self.sizes[self.turn % len(self.sizes)])
        self.turn += 1
        self.at += size
        return self.content[self.at - size : self.at]

    def seek(self, offset: int, /) -> int:
        self.at = offset
        return offset


CSV_TEXT = st.text(st.sampled_from('ab@.é,;"\r\n\x00 '), max_size=60)


@given(CSV_TEXT, st.lists(st.integers(1, 7), min_size=1), st.sampled_from(["utf-8", "utf-16", "cp1252"]))
def test_rows_do_not_depend_on_how_the_bytes_arrive(text: str, sizes: list[int], encoding: str) -> None:
    content = f"Name,Email\nx,a@example.org\n{text}".encode(encoding)
    layout, whole = read(content)

    assert list(read_rows(Dribble(content, sizes), layout)) == whole


@given(st.binary(max_size=400) | CSV_TEXT.map(str.encode))
def test_no_bytes_raise_anything_but_a_refusal(content: bytes) -> None:
    try:
        layout, rows = read(content)
    except FileRefused:
        return
    for row in rows:
        if isinstance(row, Row):
            assert len(row.cells) == len(layout.columns)
        else:
            assert row.reason.endswith(".")
            assert len(row.value) <= 80


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12), max_size=20))
def test_whatever_a_spreadsheet_writes_is_read_back(names: list[str]) -> None:
    people = [["Ana", "ana@example.org"], *([name, "b@example.org"] for name in names)]
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["Name", "Email"], *people])

    assert good(text.getvalue().encode()) == people


def test_a_layout_survives_being_kept_as_json() -> None:
    layout, _rows = read(TWO.encode())

    assert Layout.from_json(layout.as_json()) == layout

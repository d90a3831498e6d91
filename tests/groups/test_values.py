"""Cells of a stranger's file, made safe."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from groups.imports.dates import read_instant
from groups.imports.formats import GENERIC, PATREON_2023, PATREON_2026, PLAIN_LIST, Field, plain, recognise
from groups.imports.formats import suggest_columns as suggest
from groups.imports.values import (
    LONGEST_NAME,
    LONGEST_STORED,
    CleanName,
    ValueRefused,
    hint_of,
    read_address,
    read_name,
    read_outside_id,
    shown,
)
from tests import samples


@pytest.mark.parametrize(
    ("cell", "key", "name"),
    [
        ("ana@example.org", "ana@example.org", ""),
        (" mailto:Ana@Example.org?subject=x ", "ana@example.org", ""),
        ("<ana@example.org>", "ana@example.org", ""),
        ("Ana Moreau <ana@example.org>", "ana@example.org", "Ana Moreau"),
        ('"Moreau, Ana" <mailto:ana@example.org>', "ana@example.org", "Moreau, Ana"),
    ],
)
def test_an_address_is_read_as_people_write_it(cell: str, key: str, name: str) -> None:
    found = read_address(cell)

    assert (found.key, found.name) == (key, name)


@pytest.mark.parametrize(
    "cell", ["a@b.example;c@d.example", "a@b.example, c@d.example", "a@b.example / c@d.example"]
)
def test_two_addresses_in_one_cell_are_refused_with_a_hint(cell: str) -> None:
    with pytest.raises(ValueRefused, match="own row"):
        read_address(cell)


@pytest.mark.parametrize("cell", ["", "nobody", "a@localhost", "Bob <bob>", "<a@b.example> <c@d.example>"])
def test_what_is_no_address_is_refused_with_a_sentence(cell: str) -> None:
    with pytest.raises(ValueRefused, match=r"\.$"):
        read_address(cell)


@pytest.mark.parametrize(
    ("cell", "text", "changed"),
    [
        ("  Zoë   Tanaka\t", "Zoë Tanaka", False),
        ("Zoe\u0308", "Zoë", False),
        ("=HYPERLINK(1)", "=HYPERLINK(1)", False),
        ('"x" <evil@e.example>, "y"', '"x" <evil@e.example>, "y"', False),
        ("ev\u202eil", "evil", True),
        ("A\u200bn\u2060a\ufeff", "Ana", True),
        ("A\u200dna", "Ana", True),
        ("Ana\U000e0041\U000e007f", "Ana", True),
        ("A\x08na", "Ana", True),
        ("\u0645\u06cc\u200c\u0631\u0648", "\u0645\u06cc\u200c\u0631\u0648", False),
        ("\U0001f469\u200d\U0001f680 Uma", "\U0001f469\u200d\U0001f680 Uma", False),
        ("\U0001f469\U0001f3fd\u200d\U0001f680", "\U0001f469\U0001f3fd\u200d\U0001f680", False),
        ("q" + "\u0323" * 40 + "x", "q" + "\u0323" * 4 + "x", True),
        ("x" * 10_000, "x" * LONGEST_NAME, True),
        ("\U0001f600" * 200, "\U0001f600" * LONGEST_NAME, True),
        ("", "", False),
    ],
)
def test_a_name_keeps_what_is_seen_and_loses_what_hides(cell: str, text: str, changed: bool) -> None:
    name = read_name(cell)

    assert (name.text, name.changed) == (text, changed)


@pytest.mark.parametrize("cell", ["Ana\r\nBcc: x@example.org", "Ana\nMoreau", "A\x00na", "A\u2028na"])
def test_a_line_break_in_a_name_is_refused(cell: str) -> None:
    with pytest.raises(ValueRefused, match="line break"):
        read_name(cell)


@example("0 \x1b\x0c0")
@example("e\x1b\u0301")
@given(st.text())
def test_any_name_fits_the_column_or_is_refused(cell: str) -> None:
    try:
        name = read_name(cell)
    except ValueRefused:
        return
    assert len(name.text) <= LONGEST_STORED
    assert read_name(name.text).text == name.text


@pytest.mark.parametrize(
    ("cell", "instant"),
    [
        ("", None),
        ("2023-05-31 07:46:37", datetime(2023, 5, 31, 7, 46, 37, tzinfo=UTC)),
        ("2023-05-31 07:46:37.482913", datetime(2023, 5, 31, 7, 46, 37, 482913, tzinfo=UTC)),
        ("2023-05-31", datetime(2023, 5, 31, tzinfo=UTC)),
        ("2023-05-31T09:46:37+02:00", datetime(2023, 5, 31, 7, 46, 37, tzinfo=UTC)),
    ],
)
def test_dates_are_read_with_and_without_microseconds(cell: str, instant: datetime | None) -> None:
    assert read_instant(cell) == instant


@pytest.mark.parametrize(
    "cell", ["0001-01-01", "9999-12-31 23:59:59", "2026-02-31", "yesterday", "١٢-١٢-٢٠٢٦"]
)
def test_impossible_dates_are_refused(cell: str) -> None:
    with pytest.raises(ValueRefused, match=r"\.$"):
        read_instant(cell)


@given(st.text(st.sampled_from("0123456789-:. +TWZ"), max_size=30))
def test_any_date_is_read_or_refused(cell: str) -> None:
    try:
        found = read_instant(cell)
    except ValueRefused:
        return
    assert found is None or found.utcoffset() == timedelta(0)


@pytest.mark.parametrize("cell", ["x" * 121, "41\x0001", "41\n01"])
def test_an_outside_id_is_short_and_printable(cell: str) -> None:
    assert read_outside_id(" 4101000 ") == "4101000"
    with pytest.raises(ValueRefused):
        read_outside_id(cell)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("k3v9@privaterelay.appleid.com", "relay"),
        ("x@mailinator.com", "disposable"),
        ("info@example.org", "role"),
        ("ana@example.org", ""),
        ("", ""),
    ],
)
def test_addresses_worth_a_word_are_flagged(key: str, hint: str) -> None:
    assert hint_of(key) == hint


def test_a_bad_value_is_shown_visibly_and_cut() -> None:
    assert shown("a\r\nb\u202e") == "a��b�"
    assert shown("x" * 80) == "x" * 80
    assert shown("x" * 81) == "x" * 79 + "…"


def test_formats_are_recognised_by_their_headings() -> None:
    assert recognise(samples.PATREON_2026) is PATREON_2026
    assert recognise([heading.upper() for heading in reversed(samples.PATREON_2023)]) is PATREON_2023
    assert recognise(["Courriel"]) is PLAIN_LIST
    assert recognise(["Backer UID", "Email"]) is GENERIC


def test_columns_are_suggested_by_every_known_alias_and_only_those_a_format_reads() -> None:
    found = suggest(
        [" backer  NAME", "E-mail", "Email", "Reward Title", "Backer UID"], GENERIC, address="E-mail"
    )

    assert found == {Field.ADDRESS: "E-mail", Field.NAME: " backer  NAME", Field.TIER: "Reward Title"}
    assert plain("\uff34ier  ONE ") == "tier one"


YOUNGER = "\U00010d4a\U0001ccfa"  # assigned by Unicode 16, younger than the table of this Python
NEVER = "\ufdd0\ufffe\U000e0fff\u2065"


def test_letters_of_a_younger_unicode_are_letters_and_what_is_none_ever_is_taken_out() -> None:
    assert read_name(f"Zo{YOUNGER}") == CleanName(f"Zo{YOUNGER}", changed=False)
    assert shown(YOUNGER) == YOUNGER
    assert read_outside_id(YOUNGER) == YOUNGER
    assert read_name(f"Zo{NEVER}") == CleanName("Zo", changed=True)
    assert shown(NEVER) == "\ufffd" * len(NEVER)
    for sign in NEVER:
        with pytest.raises(ValueRefused):
            read_outside_id(f"1{sign}")

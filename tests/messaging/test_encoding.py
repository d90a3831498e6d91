"""What is done at once for speed is, octet for octet, what would be done one by one."""

from hypothesis import given
from hypothesis import strategies as st

from messaging import tokens
from messaging.mail.encoding import Lines, encode_line
from messaging.words import Slots, fill

# Much that quoted-printable treats in its own way, and lines long enough to break.
PIECES = st.text(st.sampled_from("ab =.\té…&\x7f") | st.characters(codec="utf-8", exclude_characters="\r\n"))
LONG = st.integers(0, 90).map(lambda length: "x" * length)
LINES = st.lists(st.lists(PIECES | LONG | st.none(), max_size=4), max_size=6)


@given(LINES, PIECES | LONG)
def test_lines_encoded_together_are_the_lines_encoded_one_by_one(
    lines: list[list[str | None]], value: str
) -> None:
    slots = Slots()
    text = "".join(
        "".join(slots.mark("name") if piece is None else piece for piece in line) + "\n" for line in lines
    )
    values = [value] * len(slots.places)
    expected = "".join(fill(text, values)).removesuffix("\n").split("\n") if text else []
    assert Lines(text, encode=str).encode(values) == b"".join(encode_line(line) for line in expected)


def test_a_token_is_what_the_signer_writes() -> None:
    assert tokens.preferences_token(77) == tokens._signer(tokens.PURPOSE).sign("77")
    assert tokens.why_token(77) == tokens._signer(tokens.WHY).sign("77")

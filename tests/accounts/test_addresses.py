import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.addresses import AddressRefused, address_key, masked


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("ana@example.org", "ana@example.org"),
        ("Toms.Schfer26@Example.Com", "toms.schfer26@example.com"),
        ("  ana@example.org\u00a0\r\n", "ana@example.org"),
        ("ana@exämple.com", "ana@xn--exmple-cua.com"),
        ("ana@XN--exmple-cua.com", "ana@xn--exmple-cua.com"),
        ("ana@c。co", "ana@c.co"),
        ("ａna＠example.org", "ana@example.org"),
        ("a.n.a+minis@gmail.com", "a.n.a+minis@gmail.com"),
        ("K3V9@privaterelay.appleid.com", "k3v9@privaterelay.appleid.com"),
        ("x" * 64 + "@example.org", "x" * 64 + "@example.org"),
    ],
)
def test_one_mailbox_has_one_key(raw: str, key: str) -> None:
    assert address_key(raw) == key


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " \u00a0 ",
        "ana",
        "ana@",
        "@example.org",
        "a@b@example.org",
        "a@localhost",
        "a@[127.0.0.1]",
        "a@127.0.0.1",
        "a@printer.local",
        "p\u0430ypal@example.org",  # a Cyrillic а
        "x" * 65 + "@example.org",
        "a@" + "x" * 60 + ("." + "y" * 60) * 4 + ".org",
        "a" * 100_000,
        "a\r\nBcc: b@example.org",
        "a\x00b@example.org",
        "a b@example.org",
        "a..b@example.org",
        "a@-example.org",
        "a@exa_mple.org",
        "a@b.example;c@d.example",
        '"quoted name"@example.org',
        "ana@example\u202e.org",
    ],
)
def test_what_mail_cannot_reach_is_refused_with_a_sentence(raw: str) -> None:
    with pytest.raises(AddressRefused, match=r"\.$"):
        address_key(raw)


@given(st.text(max_size=600))
def test_any_text_is_a_key_or_refused(raw: str) -> None:
    try:
        key = address_key(raw)
    except AddressRefused:
        return
    assert address_key(key) == key
    assert key.isascii()
    assert key == key.lower()


@given(st.emails())
def test_a_key_is_its_own_key(raw: str) -> None:
    try:
        key = address_key(raw)
    except AddressRefused:
        return
    assert address_key(key) == address_key(raw.upper()) == key


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("jane@gmail.com", "j•••@g•••.com"),
        ("j@mail.example.co.uk", "j•••@m•••.uk"),
        ("j@localhost", "j•••@•••"),
        ("nothing", "•••"),
    ],
)
def test_a_masked_address_shows_first_letters_only(address: str, shown: str) -> None:
    assert masked(address) == shown

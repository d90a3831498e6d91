import pytest

from messaging.words import (
    LONGEST_VALUE,
    Slots,
    WordsRefused,
    clean_source,
    fill,
    read_placeholders,
    tame,
    tame_name,
    to_html,
    to_text,
)


def test_letters_younger_than_our_table_are_letters() -> None:
    younger = "\U00010d4a\U0001ccfa"
    assert tame(younger) == clean_source(younger) == younger
    never = "a\ufdd0\U0001ffffb\u2065"
    assert tame(never) == clean_source(never) == "ab"
    # The sign of an ideograph's variant, and the flag of Wales: known, and the creator's own.
    assert (
        clean_source("\u8fbb\U000e0100 \U0001f3f4\U000e0067\U000e007f")
        == "\u8fbb\U000e0100 \U0001f3f4\U000e0067\U000e007f"
    )


def filled(source: str, **values: str) -> str:
    slots = Slots()
    return fill(read_placeholders(source, slots), slots.values(values))


def test_a_placeholder_stands_for_its_value_or_for_what_the_creator_wrote_instead() -> None:
    assert filled("Hi {first_name|maker}!", first_name="Zoë") == "Hi Zoë!"
    assert filled("Hi {first_name|maker}!") == "Hi maker!"
    assert filled("Hi {name}!") == "Hi friend!"
    assert filled("From {creator}.", creator="Ana's Forge") == "From Ana's Forge."


@pytest.mark.parametrize(
    "source",
    [
        "{nmae}",
        "{}",
        "{ name }",
        "{name.__class__}",
        "{user.password}",
        "{0}",
        "{name!r}",
        "{{ name }}",
        "{% if x %}{a}",
    ],
)
def test_a_placeholder_that_does_not_exist_is_refused_with_those_that_do(source: str) -> None:
    with pytest.raises(
        WordsRefused, match=r"There is no placeholder .* You can use \{name\}, \{first_name\}"
    ):
        filled(source)


def test_template_code_is_text() -> None:
    assert "{%" in to_html("{% include 'x' %}")
    assert to_text("{% include 'x' %}") == "{% include 'x' %}"


def test_markdown_becomes_html_and_text_of_the_same_words() -> None:
    source = "# Big\n\nThe *dragon* is **here**.\nNext line.\n\n- one\n- two\n\n1. first\n2. second\n\n> quiet\n> words\n\n---\n\n[my page](https://forge.example/x)"
    assert to_text(source) == (
        "Big\n\nThe dragon is *here*.\nNext line.\n\n- one\n- two\n\n1. first\n2. second\n\n> quiet\n> words\n\n* * *"
        "\n\nmy page (https://forge.example/x)"
    )
    html = to_html(source)
    assert "<h2>Big</h2>" in html
    assert "is <strong>here</strong>.<br>" in html
    assert '<a href="https://forge.example/x">my page</a>' in html


def test_text_keeps_lists_within_lists_paragraphs_within_items_and_code() -> None:
    assert to_text("- one\n\n  more of one\n  - inner\n- two") == "- one\n\n  more of one\n\n  - inner\n- two"
    assert to_text("```\na = 1\nb = 2\n```") == "a = 1\nb = 2"
    assert to_text("3. three\n4. four") == "3. three\n4. four"
    assert to_text("write to <ana@forge.example> or <https://forge.example>") == (
        "write to ana@forge.example or https://forge.example"
    )


@pytest.mark.parametrize(
    "source",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![pixel](https://evil.example/p.gif)",
        "<style>@import url(//evil.example)</style>",
        "<base href=//evil.example>",
        '<div style="display:none">hidden</div>',
        "<form action=//evil.example><input name=a></form>",
    ],
)
def test_html_and_pictures_do_not_come_through(source: str) -> None:
    html = to_html(source)
    for tag in ("<script", "<img", "<style", "<base", "<div", "<form", "<input"):
        assert tag not in html


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://files.example/x",
        "//evil.example",
        "/library/",
        "page.html",
        "https://",
        "https://[::1",
        "https://mybank.example@evil.example/",
        "https://good.example\\\\@evil.example/",
    ],
)
def test_a_link_must_show_where_it_goes(url: str) -> None:
    with pytest.raises(WordsRefused, match="The link"):
        to_html(f"[look]({url})")


def test_web_and_mail_links_may_stand() -> None:
    assert 'href="mailto:ana@forge.example"' in to_html("[write](mailto:ana@forge.example)")
    assert 'href="http://forge.example/?a=1&amp;b=2"' in to_html("[look](http://forge.example/?a=1&b=2)")


def test_a_placeholder_in_a_links_address_is_refused() -> None:
    slots = Slots()
    with pytest.raises(WordsRefused, match="cannot be part of a link's address"):
        to_html(read_placeholders("[look](https://forge.example/{name})", slots))


def test_values_are_one_tame_line() -> None:
    assert tame("  Zoë \r\n Bcc: evil@e.co\t O'Neill ") == "Zoë Bcc: evil@e.co O'Neill"
    assert tame("\u202eevil\u2066\u200b\ufeff\U000e0041") == "evil"
    assert tame("Zoe\u0308") == "Zoë"
    assert tame("\ue0000\ue001") == "0"
    assert tame("x" * 300) == "x" * LONGEST_VALUE + "…"
    assert tame("مريم") == "مريم"
    assert tame("👩\u200d🚀") == "👩\u200d🚀"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Zoë O'Neill", "Zoë O'Neill"),
        ("Dr.Who Jr.", "Dr. Who Jr."),
        ("J.R.R. Tolkien", "J.R.R. Tolkien"),
        ("click evil.example now", "click evil. example now"),
        ('"x" <evil@e.co>, "y"', ""),
        ("https://evil.example", ""),
        ("WWW.EVIL", ""),
        ("=?utf-8?q?evil?=", "=?utf-8?q?evil?="),
    ],
)
def test_a_members_name_can_carry_no_link(name: str, shown: str) -> None:
    assert tame_name(name) == shown


def test_what_was_typed_cannot_imitate_a_slot() -> None:
    assert clean_source("a\ue0000\ue001b\r\nc\rd\0\te") == "a0b\nc\nd\te"

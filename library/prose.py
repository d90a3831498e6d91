"""A creator's Markdown as HTML that can do nothing: no raw HTML, no pictures, no scripts, no forms."""

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

TAGS = {
    "a", "blockquote", "br", "code", "em", "h2", "h3", "h4", "hr", "li", "ol", "p", "pre", "s", "strong", "ul",
}  # fmt: skip


def to_html(source: str) -> SafeString:
    """`source` rendered and cleaned. Headings begin below the page's own; links leave without telling from where."""
    # No pictures: one from elsewhere would tell its server who reads, and when.
    markdown = (
        MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("strikethrough").disable("image")
    )
    tokens = markdown.parse(source)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(4, int(token.tag[1:]) + 1)}"
    html = nh3.clean(
        markdown.renderer.render(tokens, markdown.options, {}),
        tags=TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
    )
    return mark_safe(html)  # noqa: S308  nh3 has just cleaned it

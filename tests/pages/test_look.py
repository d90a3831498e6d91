"""What docs/design.md promises of the stylesheets and templates, held against the files themselves."""

import math
import re
from pathlib import Path

import pytest
from django.conf import settings

BASE = Path(settings.BASE_DIR)
CSS = BASE / "static" / "css"
TEMPLATES = sorted(path for path in (BASE / "templates").rglob("*.html") if "emails" not in path.parts)
OKLCH = r"oklch\(([\d.]+) ([\d.]+) ([\d.]+)\)"

# Words on grounds need 4.5:1, edges of controls 3:1 (WCAG 1.4.3, 1.4.11).
READABLE = [
    (ink, ground) for ink in ("ink", "ink-soft", "accent", "bad") for ground in ("page", "surface", "sunken")
]
READABLE += [(tone, f"{tone}-tint") for tone in ("accent", "good", "warn", "bad", "calm")]
READABLE += [(ink, f"{tone}-tint") for ink in ("ink", "ink-soft") for tone in ("good", "warn", "bad", "calm")]
READABLE += [("on-accent", "accent"), ("on-accent", "accent-strong"), ("page", "ink")]


def luminance(lightness: float, chroma: float, hue: float) -> float:
    """The relative luminance of an OKLCH colour: Ottosson's matrices into linear sRGB, clipped as a screen does."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short
    red, green, blue = (min(1.0, max(0.0, channel)) for channel in (red, green, blue))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def colours() -> dict[str, tuple[float, float]]:
    """Each colour token's luminance in the light and in the dark theme."""
    found = re.findall(rf"--([\w-]+): light-dark\({OKLCH}, {OKLCH}\)", (CSS / "tokens.css").read_text())
    return {
        name: (
            luminance(*(float(value) for value in values[:3])),
            luminance(*(float(value) for value in values[3:])),
        )
        for name, *values in found
    }


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


@pytest.mark.parametrize(("ink", "ground"), READABLE)
def test_words_are_readable_on_their_ground_in_both_themes(ink: str, ground: str) -> None:
    tokens = colours()
    for theme in (0, 1):
        assert contrast(tokens[ink][theme], tokens[ground][theme]) >= 4.5


@pytest.mark.parametrize("ground", ["page", "surface", "sunken"])
def test_edges_of_controls_can_be_seen_in_both_themes(ground: str) -> None:
    tokens = colours()
    for theme in (0, 1):
        assert contrast(tokens["line-strong"][theme], tokens[ground][theme]) >= 3


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.relative_to(BASE).as_posix())
def test_a_template_brings_no_style_or_script_of_its_own(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:|<script(?![^>]*\bsrc=)", text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.relative_to(BASE).as_posix())
def test_a_template_names_only_icons_that_exist(path: Path) -> None:
    drawn = set(re.findall(r'symbol id="(\w+)"', (BASE / "static" / "icons" / "icons.svg").read_text()))
    text = path.read_text()
    named = re.findall(r'components/icon\.html" with name="(\w+)"', text)
    named += re.findall(r'\{% include [^%]*\bicon="(\w+)"', text)
    assert set(named) <= drawn


def test_what_every_page_loads_stays_under_40_kb_with_a_room_s_own_sheet_beside_it() -> None:
    shared = (BASE / "templates" / "components" / "styles.html").read_text()
    sizes = {path.name: path.stat().st_size for path in CSS.glob("*.css")}
    common = sum(size for name, size in sizes.items() if f"css/{name}" in shared)
    assert common + max(size for name, size in sizes.items() if f"css/{name}" not in shared) < 40_000


def test_every_stylesheet_is_linked_by_a_template_and_speaks_inside_a_layer() -> None:
    linked = "".join(path.read_text() for path in TEMPLATES)
    for path in CSS.glob("*.css"):
        assert f"css/{path.name}" in linked
        outside = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        assert re.match(r"\s*@layer\b", outside)


def test_every_component_says_its_parameters_on_top() -> None:
    for path in (BASE / "templates" / "components").glob("*.html"):
        assert path.read_text().startswith("{% comment %}")

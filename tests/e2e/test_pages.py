"""What holds for every page: nobody is shut out, nothing scrolls sideways, nothing is heavy, the console is silent."""

import json
import os
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from tests.e2e.places import NOT_PAGES
from tests.e2e.site import Site, running_site

pytestmark = pytest.mark.e2e

WIDTHS = (360, 1440)
MOST_BYTES = 100_000
SCREENS = os.environ.get("SCREENS", "")
# Told by the browser about an answer that is meant: a page that is not there.
MEANT = re.compile(r"status of (404|410)")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """As `make run` shows it, mailbox and all."""
    with running_site(tmp_path_factory.mktemp("demo"), real_mail=False, sweep=3600) as site:
        site.manage("demo")
        yield site


@pytest.fixture(scope="module")
def places(demo: Site) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        demo.manage("shell", "-v0", "-c", "from tests.e2e import places; places.say()")
    )
    return found


@pytest.fixture(scope="module")
def signed_in(demo: Site, places: dict[str, Any], browser: Browser) -> dict[str, Any]:
    """What the browser of each role remembers."""
    remembered: dict[str, Any] = {"stranger": None}
    for role, link in places["links"].items():
        context = browser.new_context()
        page = context.new_page()
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".site-nav details")).to_be_visible()
        remembered[role] = context.storage_state()
        context.close()
    return remembered


def test_every_page_has_its_row(places: dict[str, Any]) -> None:
    shown = {name.partition(" ")[0] for _role, name, _path in places["pages"]}
    assert set(places["named"]) == shown | NOT_PAGES.keys()
    assert not shown & NOT_PAGES.keys()


def test_every_page_is_open_to_all_light_and_silent(
    demo: Site, places: dict[str, Any], signed_in: dict[str, Any], browser: Browser
) -> None:
    faults: list[str] = []
    for role, remembered in signed_in.items():
        for theme in ("light", "dark"):
            context = browser.new_context(
                storage_state=remembered, color_scheme=theme, locale="en-GB", timezone_id="Europe/Berlin"
            )
            eye = Eye(context.new_page())
            for owner, name, path in places["pages"]:
                if owner == role:
                    faults += [f"{name} ({theme}): {fault}" for fault in eye.look_at(f"{demo.url}{path}")]
                    picture(eye.page, name, theme)
            context.close()
    assert not faults, "\n".join(faults)


class Eye:
    """A page of the browser, and what came and was said since it was last looked at."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.heard: list[str] = []
        self.asked: list[Request] = []
        page.on("console", self.hear)
        page.on("pageerror", lambda error: self.heard.append(str(error)))
        page.on("requestfinished", self.note)

    def hear(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"}:
            self.heard.append(f"{said.type}: {said.text}")

    def note(self, request: Request) -> None:
        self.asked.append(request)

    def look_at(self, address: str) -> Iterator[str]:
        """What is wrong with the page there."""
        page = self.page
        self.heard.clear()
        self.asked.clear()
        page.set_viewport_size({"width": 1440, "height": 900})
        answer = page.goto(address, wait_until="networkidle")
        if answer is None or answer.status >= 500:
            yield f"answers {answer and answer.status}"
            return
        words = [request for request in self.asked if request.resource_type != "image"]
        if (heavy := sum(request.sizes()["responseBodySize"] for request in words)) > MOST_BYTES:
            yield f"weighs {heavy:,} bytes without its pictures"
        for violation in Axe().run(page).response["violations"]:
            for node in violation["nodes"][:3]:
                yield f"{violation['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:240]}"
        page.set_viewport_size({"width": 360, "height": 780})
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > 360:
            yield f"scrolls sideways at 360: {wide}"
        yield from (f"the console says {line}" for line in self.heard if not MEANT.search(line))


def picture(page: Page, name: str, theme: str) -> None:
    if not SCREENS:
        return
    Path(SCREENS).mkdir(parents=True, exist_ok=True)
    # What loads when it comes into sight, the mail's preview for one.
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_load_state("networkidle")
    page.evaluate("window.scrollTo(0, 0)")
    words = re.sub(r"[^a-z]+", "-", name.lower()).strip("-")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        whole = Image.open(BytesIO(page.screenshot(full_page=True)))
        top = whole.crop((0, 0, whole.width, min(whole.height, 2600)))
        top.save(Path(SCREENS) / f"{words}-{width}-{theme}.webp", quality=72, method=6)

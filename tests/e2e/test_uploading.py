"""Files on their way into a bundle, at a real browser: paused before their turn, and lost at the very end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.e2e.site import Site
from tests.e2e.test_journey import ANA, STUDIO, become_a_creator, sign_up

pytestmark = pytest.mark.e2e
Choose = Callable[[int], None]


@pytest.fixture
def choose(page: Page, site: Site, tmp_path: Path) -> Choose:
    """Ana, at a new bundle, chooses so many files at once."""
    sign_up(page, site, ANA)
    become_a_creator(page, site)
    page.goto(f"{site.url}{STUDIO}bundles/new/")
    page.get_by_label("Title").fill("Dragon")
    page.get_by_role("button", name="Go on to its files").click()
    expect(page.locator("[data-send]")).to_be_hidden()

    def choose(number: int) -> None:
        files = [tmp_path / f"{n}.txt" for n in range(1, number + 1)]
        for file in files:
            file.write_text(f"words of {file.name}")
        page.locator("input[type=file][name=files]").set_input_files(files)

    return choose


def row(page: Page, name: str) -> Locator:
    return page.locator("[data-list] li", has_text=name)


def test_a_file_paused_before_its_turn_waits_and_keeps_no_other_from_its_own(
    page: Page, choose: Choose, complaints: list[str]
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/uploads/", hold)
    choose(5)
    expect(row(page, "5.txt").get_by_text("Waiting for its turn")).to_be_visible()
    for name in ("5.txt", "4.txt", "3.txt"):
        row(page, name).get_by_role("button", name="Pause").click()
        expect(row(page, name).get_by_text("Paused")).to_be_visible()
    for route in held:
        if "3.txt" not in (route.request.post_data or ""):
            route.continue_()
    expect(page.get_by_text("2 of 5 files uploaded.")).to_be_visible()
    page.unroute("**/uploads/")
    for name in ("3.txt", "4.txt", "5.txt"):
        row(page, name).get_by_role("button", name="Go on").click()
    expect(page.get_by_text("5 of 5 files uploaded.")).to_be_visible()
    for number in range(1, 6):
        expect(page.locator("#files .file-name", has_text=f"{number}.txt")).to_be_visible()
    assert complaints == []


@pytest.mark.parametrize("lost", ["**/parts/*/", "**/complete/", "**/uploads/1/"])
def test_a_connection_that_stays_away_can_be_gone_on_with_when_it_is_back(
    page: Page, choose: Choose, lost: str
) -> None:
    page.clock.install()
    page.route(lost, lambda route: route.abort())
    choose(1)
    again = row(page, "1.txt").get_by_role("button", name="Go on")
    for _attempt in range(60):
        if again.is_visible():
            break
        page.clock.run_for(10_000)
        page.wait_for_timeout(50)
    expect(again).to_be_visible()
    expect(row(page, "1.txt").get_by_text("The connection was lost.")).to_be_visible()
    page.unroute_all()
    page.clock.resume()
    again.click()
    expect(page.get_by_text("1 of 1 files uploaded.")).to_be_visible()

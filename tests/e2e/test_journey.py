"""The main road, walked by people at browsers: from a creator's export to a member's download."""

import hashlib
import os
import re
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from config.demo.pictures import pdf
from config.demo.shapes import gear, stl, three_mf, zipped
from tests.e2e.site import Site, text_of
from tests.samples import NOVEMBER, OCTOBER, november, october, patreon_export

pytestmark = pytest.mark.e2e

ANA = "ana@example.net"
# Said by htmx when somebody leaves a page while it is being saved: that is meant.
LEFT_EARLY = re.compile("htmx:(sendAbort|afterRequest)")
STUDIO = "/studio/anas-forge/"


def sign_up(page: Page, site: Site, address: str) -> None:
    page.goto(f"{site.url}/accounts/signup/")
    page.locator("main input[name=email]").fill(address)
    page.get_by_role("button", name="Send me a code").click()
    page.get_by_label("Code", exact=True).fill(site.code_for(address))
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Library")).to_be_visible()


def become_a_creator(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/studio/")
    page.get_by_label("Name").fill("Ana’s Forge")
    page.get_by_label("Address of your studio").fill("anas-forge")
    page.get_by_label("Time zone").select_option("Europe/Berlin")
    page.get_by_label("Reply-to address").fill(ANA)
    page.get_by_label("Postal address").fill("Schmiedgasse 7\n04109 Leipzig")
    page.get_by_role("button", name="Open my studio").click()
    expect(page).to_have_url(f"{site.url}{STUDIO}")


def make_groups(page: Page, site: Site) -> None:
    page.goto(f"{site.url}{STUDIO}groups/")
    page.get_by_role("link", name="Make the first group").click()
    expect(page.get_by_role("heading", name="Who gains what")).to_be_visible()
    page.get_by_label("Name").fill("Patrons")
    page.get_by_role("button", name="Create it").click()
    patrons = page.url
    for tier in ("Hobbyist", "Collector", "Merchant"):
        page.goto(patrons)
        page.get_by_role("link", name="sub group").click()
        expect(page.get_by_role("heading", name="Who gains what")).to_be_visible()
        page.get_by_label("Name").fill(tier)
        page.get_by_role("button", name="Create it").click()
        expect(page.get_by_role("heading", name=tier, exact=True)).to_be_visible()
    page.goto(patrons)


def read_an_export(page: Page, site: Site, name: str, export: bytes) -> None:
    """From the group's page to the dry run's."""
    page.goto(f"{site.url}{STUDIO}groups/")
    page.get_by_role("link", name="Patrons", exact=True).click()
    page.get_by_role("link", name="Import a file").first.click()
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "text/csv", "buffer": export})
    page.get_by_role("button", name="Upload and look at it").click()
    expect(page.get_by_text("Recognised as: Patreon")).to_be_visible()
    page.get_by_role("button", name="Try it out").click()
    expect(page.get_by_text("nothing is changed yet")).to_be_visible()


def apply_it(page: Page) -> None:
    page.get_by_label("These people support me").check()
    page.get_by_role("button", name="Apply it").click()
    expect(page.get_by_text("Applied")).to_be_visible()


def counts(page: Page) -> dict[str, int]:
    """The dry run's tabs and their numbers."""
    tabs = page.get_by_role("navigation", name="What happens to whom").get_by_role("link").all_inner_texts()
    found = (re.fullmatch(r"(.+?)\s+([\d,]+)", " ".join(tab.split())) for tab in tabs)
    return {match[1]: int(match[2].replace(",", "")) for match in found if match}


@dataclass(frozen=True)
class Material:
    """What Ana has: two months of an export, what their dry runs must say, files, and two people to follow."""

    october: bytes
    november: bytes
    first: dict[str, int]
    second: dict[str, int]
    people: int
    files: dict[str, bytes]
    member: tuple[str, str]  # first name, address
    leaver: str


def made_up() -> Material:
    wheel = gear(16)
    return Material(
        patreon_export(october(), OCTOBER),
        patreon_export(november(), NOVEMBER),
        {"New": 18, "Not members": 6},
        {"New": 4, "Changed": 1, "Tier moved": 2, "Gone": 3, "Not members": 6, "Unchanged": 12},
        21,
        # One of each kind; the last is too large for a single part.
        {
            "gear 16.stl": stl(wheel, "gear"),
            "plate.3mf": three_mf(wheel, "Gear", b"\x89PNG\r\n\x1a\n"),
            "how-to.pdf": pdf("Gears", [("How to print", ["Slowly."])]),
            "sources.zip": zipped({"noise.bin": os.urandom(20_000_000), "README.txt": "Take it apart."}),
        },
        ("Priya", "patron1@example.org"),
        # Their address changed between the months under the same User ID.
        "new.address.7@example.org",
    )


def real_ones() -> Material:
    """The exports and models of the folder SAMPLES."""
    if not (folder := os.environ.get("SAMPLES")):
        pytest.skip("SAMPLES names no folder of real exports and models")
    models = Path(folder) / "models"
    return Material(
        (Path(folder) / "patreon-2026-10.csv").read_bytes(),
        (Path(folder) / "patreon-2026-11.csv").read_bytes(),
        # By their README: six are new and one paid again; one address and two tiers changed; two are not listed any
        # more, and one cancelled, whose access ran out on 14 November.
        {"New": 41, "Not members": 7},
        {"New": 7, "Changed": 1, "Tier moved": 2, "Gone": 3, "Not members": 7, "Unchanged": 35},
        41 + 7 - 1,
        {path.name: path.read_bytes() for path in sorted(models.glob("*.[s3][tm][lf]"))},
        ("Priya", "priya.ylmaz1@example.net"),
        "new.address.7@example.org",
    )


def drop(page: Page, target: str, paths: list[Path]) -> None:
    """Files dragged in from the desktop: what the browser itself does with them, not a script's imitation."""
    box = page.locator(target).bounding_box()
    assert box
    session = page.context.new_cdp_session(page)
    where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 20}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})
    session.detach()


def make_a_bundle(page: Page, site: Site, title: str, files: dict[str, bytes], folder: Path) -> None:
    """All but the last file are dropped onto the page, the last is chosen."""
    page.goto(f"{site.url}{STUDIO}bundles/new/")
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Go on to its files").click()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    *dropped, chosen = files
    # The script has taken over: choosing is sending.
    expect(page.locator("[data-send]")).to_be_hidden()
    if dropped:
        drop(page, ".dropzone", [folder / name for name in dropped])
    page.locator("input[type=file][name=files]").set_input_files(folder / chosen)
    expect(page.get_by_text(f"{len(files)} of {len(files)} files uploaded.")).to_be_visible(timeout=60_000)
    for name in files:
        expect(page.locator("#files .file-name", has_text=name)).to_be_visible()


def write_a_release(page: Page, site: Site, bundle: str, title: str, group: str) -> None:
    """Through the steps up to the check, saved all the time."""
    page.goto(f"{site.url}{STUDIO}bundles/")
    page.get_by_role("link", name=bundle).click()
    page.get_by_role("button", name="Release it").click()
    expect(page.get_by_label(bundle)).to_be_checked()
    page.get_by_label("Title").fill(title)
    page.get_by_role("group", name="Who gets it").get_by_label(group, exact=False).first.check()
    page.get_by_label("Your words").fill("Hello {first_name|friend},\n\nthe **gears** are done.")
    expect(page.frame_locator("iframe").get_by_text("the gears are done.")).to_be_visible()


def check_and_send(page: Page, people: int) -> None:
    """The dry run's numbers stand before the button, the same ones after it."""
    partition = page.locator("#outlook .partition")
    expect(partition.locator("li").first).to_have_text(re.compile(rf"^\s*{people}\s+people"))
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#live")).to_be_visible()


def await_sent(page: Page, mailed: int) -> None:
    """The page follows by itself until all is sent."""
    expect(page.locator("#live .badge").first).to_have_text(re.compile("sent", re.IGNORECASE), timeout=60_000)
    expect(page.locator("#live")).to_contain_text(re.compile(rf"Mailed\s+{mailed}\b"))


def link_in(mail: EmailMessage, path: str) -> str:
    found = re.search(rf"https?://\S+/{path}/\S+", text_of(mail))
    assert found, text_of(mail)
    return found[0]


def judge_the_mail(mail: EmailMessage, site: Site, first_name: str) -> None:
    """What M1 asks of every mail."""
    assert "Ana’s Forge" in str(mail["From"])
    assert ANA in str(mail["Reply-To"])
    assert mail["Message-ID"]
    assert mail["Subject"] == "November: clockwork"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert re.fullmatch(rf"<{re.escape(site.url)}/unsubscribe/[^>]+>", str(mail["List-Unsubscribe"]))
    assert mail["Auto-Submitted"] == "auto-generated"
    assert not list(mail.iter_attachments())
    for words in (text_of(mail), text_of(mail, "html")):
        assert first_name in words
        assert "Clockwork Gears" in words
        assert f"{site.url}/redeem/" in words
        assert f"{site.url}/unsubscribe/" in words
        assert f"{site.url}/preferences/" in words
        assert "04109 Leipzig" in words
        assert "{" not in re.sub(r"<style.*?</style>", "", words, flags=re.DOTALL)
    assert "<img" not in text_of(mail, "html")


def redeem(page: Page, site: Site, mail: EmailMessage, address: str) -> None:
    """The mail's link, one press, a code to the mailed address, and it is in the library."""
    page.goto(link_in(mail, "redeem"))
    page.get_by_role("button", name="Redeem here").click()
    page.get_by_label("Code", exact=True).fill(site.code_for(address, 2))
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="It is yours")).to_be_visible()
    page.get_by_role("link", name="Open in your library").click()
    expect(page.get_by_role("heading", name="Clockwork Gears")).to_be_visible()
    page.goto(f"{site.url}/library/")
    page.get_by_role("link", name="Clockwork Gears").click()


def be_refused_by_the_throttle(page: Page, site: Site) -> None:
    """Before a word is written the page says so; the button says so too, why, and until when; and nothing is written."""
    assert site.recorder
    expect(page.get_by_text("Not yet")).to_be_visible()
    mailed = len(site.recorder.mails())
    page.get_by_role("button", name="Send", exact=True).click()
    refused = page.get_by_role("alert").filter(has_text="Not sent, and nothing is changed")
    expect(refused).to_contain_text("2 messages")
    expect(page.get_by_role("alert").get_by_role("button", name="Schedule for")).to_be_visible()
    assert len(site.recorder.mails()) == mailed


def judge_the_downloads(page: Page, site: Site, files: dict[str, bytes]) -> None:
    """One file by range, all of them as one ZIP: bit for bit what was uploaded."""
    for name, content in files.items():
        link = site.url + str(page.get_by_role("link", name=name).get_attribute("href"))
        whole = page.request.get(link)
        assert hashlib.sha256(whole.body()).digest() == hashlib.sha256(content).digest()
        assert "attachment" in whole.headers["content-disposition"]
        middle = page.request.get(link, headers={"Range": f"bytes=100-{len(content) - 50}"})
        assert middle.status == 206
        assert middle.body() == content[100 : len(content) - 49]
    with page.expect_download() as begun:
        page.get_by_role("link", name="Download everything").click()
    with zipfile.ZipFile(begun.value.path()) as archive:
        assert archive.testzip() is None
        inside = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert {name: inside[name] for name in files} == files
    for name, content in files.items():
        assert hashlib.sha256(content).hexdigest() in inside["MANIFEST.sha256"].decode(), name


def unsubscribe_in_one_click(mail: EmailMessage) -> None:
    """As a mailbox provider does it (RFC 8058): one POST, without cookies, redirects or a page."""
    address = str(mail["List-Unsubscribe"]).strip("<>")
    with urlopen(Request(address, data=b"List-Unsubscribe=One-Click", method="POST")) as answer:
        assert answer.status == 200
        assert answer.url == address


@pytest.mark.parametrize("material", [made_up, real_ones], ids=["made_up", "samples"])
def test_the_main_road(
    material: Callable[[], Material],
    page: Page,
    new_context: Callable[..., BrowserContext],
    site: Site,
    complaints: list[str],
    tmp_path: Path,
) -> None:
    has = material()
    first_name, address = has.member
    page.set_default_timeout(30_000)

    sign_up(page, site, ANA)
    become_a_creator(page, site)
    make_groups(page, site)
    read_an_export(page, site, "patreon-2026-10.csv", has.october)
    assert counts(page) == has.first
    apply_it(page)
    read_an_export(page, site, "patreon-2026-11.csv", has.november)
    assert counts(page) == has.second
    apply_it(page)

    make_a_bundle(page, site, "Clockwork Gears", has.files, tmp_path)
    write_a_release(page, site, "Clockwork Gears", "November: clockwork", "Patrons")
    check_and_send(page, has.people)
    await_sent(page, has.people)
    (mail,) = site.mails_to(address)
    judge_the_mail(mail, site, first_name)
    (other,) = site.mails_to(has.leaver)

    member = new_context().new_page()
    redeem(member, site, mail, address)
    judge_the_downloads(member, site, has.files)
    unsubscribe_in_one_click(other)

    make_a_bundle(page, site, "Castle Dice Tower", {"tower.zip": zipped({"tower.txt": "High."})}, tmp_path)
    write_a_release(page, site, "Castle Dice Tower", "November: castle", "Patrons")
    expect(page.locator("#outlook")).to_contain_text(re.compile(r"1\s*get it; they asked you for no mail"))
    check_and_send(page, has.people)
    await_sent(page, has.people - 1)
    assert len(site.mails_to(has.leaver)) == 1
    member.goto(f"{site.url}/library/")
    expect(member.get_by_role("link", name="Castle Dice Tower")).to_be_visible()

    make_a_bundle(page, site, "Twisted Vases", {"vase.zip": zipped({"vase.txt": "Round."})}, tmp_path)
    write_a_release(page, site, "Twisted Vases", "November: vases", "Patrons")
    be_refused_by_the_throttle(page, site)
    page.get_by_role("button", name="Publish without a mail").first.click()
    expect(page.locator("#live")).to_be_visible()
    expect(page.locator("#live")).to_contain_text(re.compile(rf"Entitled\s+{has.people}\b"), timeout=30_000)
    member.reload()
    expect(member.get_by_role("link", name="Twisted Vases")).to_be_visible()
    assert not [line for line in complaints if not LEFT_EARLY.search(line)]


def test_the_main_road_without_a_script(
    new_context: Callable[..., BrowserContext], site: Site, tmp_path: Path
) -> None:
    """Shorter, but every step of it: no page needs JavaScript."""
    page = new_context(java_script_enabled=False).new_page()
    page.set_default_timeout(30_000)
    sign_up(page, site, ANA)
    become_a_creator(page, site)
    make_groups(page, site)
    page.get_by_role("link", name="Import a file").first.click()
    export = {"name": "patreon.csv", "mimeType": "text/csv", "buffer": patreon_export(october(), OCTOBER)}
    page.locator("input[type=file]").set_input_files(export)  # type: ignore[arg-type]
    page.get_by_role("button", name="Upload and look at it").click()
    page.get_by_role("button", name="Try it out").click()
    look_again(page, page.get_by_role("button", name="Apply it"))
    page.get_by_label("These people support me").check()
    page.get_by_role("button", name="Apply it").click()
    look_again(page, page.get_by_text("Applied"))

    (tmp_path / "gear.stl").write_bytes(stl(gear(12), "gear"))
    page.goto(f"{site.url}{STUDIO}bundles/new/")
    page.get_by_label("Title").fill("Gears")
    page.get_by_role("button", name="Go on to its files").click()
    page.locator("input[type=file][name=files]").set_input_files(tmp_path / "gear.stl")
    page.get_by_role("button", name="Upload", exact=True).click()
    look_again(page, page.locator("#files").get_by_role("link", name="Rename"))
    page.get_by_role("button", name="Release it").click()
    page.get_by_label("Title").fill("Gears for all")
    page.get_by_role("group", name="Who gets it").get_by_label("Patrons", exact=False).first.check()
    page.get_by_label("Your words").fill("Hello {first_name|friend}, the gears are done.")
    page.get_by_role("button", name="Send", exact=True).click()
    (mail,) = site.wait_for_mails("patron1@example.org")

    member = new_context(java_script_enabled=False).new_page()
    member.goto(link_in(mail, "redeem"))
    member.get_by_role("button", name="Redeem here").click()
    member.get_by_label("Code", exact=True).fill(site.code_for("patron1@example.org", 2))
    member.get_by_role("button", name="Go on").click()
    expect(member.get_by_role("heading", name="It is yours")).to_be_visible()
    member.goto(link_in(mail, "unsubscribe"))
    member.get_by_role("button", name="Stop the mail").click()
    expect(member.get_by_role("heading", name="The mail is stopped")).to_be_visible()


def look_again(page: Page, what: Locator) -> None:
    """Without a script a page that waits for a worker is loaded anew by hand."""
    until = time.monotonic() + 90
    while not what.first.is_visible():
        assert time.monotonic() < until, page.locator("main").inner_text()
        page.wait_for_timeout(300)
        page.goto(page.url)

"""A passkey, as a browser with one adds it, signs in by it and takes it away."""

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from tests.e2e.site import Site
from tests.e2e.test_journey import sign_up

pytestmark = pytest.mark.e2e

MIA = "mia@example.net"


@pytest.fixture
def fingerprint(page: Page) -> None:
    """The browser has a reader built in, and whoever sits there is recognised."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


@pytest.mark.usefixtures("fingerprint")
def test_a_passkey_is_added_asked_for_at_sign_in_and_removed(
    site: Site, page: Page, complaints: list[str]
) -> None:
    # By its number no site has passkeys.
    here = Site(site.url.replace("127.0.0.1", "localhost"), site.environment, site.recorder)
    sign_up(page, here, MIA)
    page.goto(f"{here.url}/accounts/2fa/")
    page.get_by_role("link", name="Add a passkey").click()
    # A new account is asked who it is, as any other is.
    page.get_by_role("button", name="Send me a code").click()
    page.get_by_label("Code", exact=True).fill(here.code_for(MIA, 2))
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Name").fill("My laptop")
    page.get_by_role("button", name="Add it").click()
    # Who was asked a minute ago sees the recovery codes at once.
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    expect(page.locator("#codes li")).to_have_count(10)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "recovery-codes.txt"
    # One a device.
    page.goto(f"{here.url}/accounts/2fa/webauthn/add/")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_text("This device has a passkey for your account already.")).to_be_visible()

    page.goto(f"{here.url}/accounts/logout/")
    page.locator("main").get_by_role("button", name="Sign out").click()
    page.goto(f"{here.url}/accounts/login/")
    page.get_by_label("E-mail address").first.fill(MIA)
    page.get_by_role("button", name="Send me a code").click()
    page.get_by_label("Code", exact=True).fill(here.code_for(MIA, 4))
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Your second factor")).to_be_visible()
    assert Axe().run(page).response["violations"] == []
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Library")).to_be_visible()

    # What asks again before something changes leads on to where it was asked.
    page.goto(f"{here.url}/accounts/2fa/webauthn/reauthenticate/?next=/accounts/2fa/")
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_role("link", name="See passkeys").click()
    expect(page.get_by_text("My laptop").first).to_be_visible()
    page.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("heading", name="No passkey yet")).to_be_visible()
    assert complaints == []

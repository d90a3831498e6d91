"""Every address of the site × every role: what each of them gets. An address without a row fails.

The roles: nobody signed in; a *stranger* who runs a creator of their own; the *member* who was given something;
the *owner* of the creator; and the rest of its staff, who may do less (`test_each_role_of_the_staff…`). The rows are asked by GET, with real objects of the cast; then outsiders try every other
way in: by POST and PUT, and with somebody else's numbers under their own creator's address. They get 404, as if
there were nothing, and change nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, product
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, path, resolve, reverse

from accounts.models import User
from config.sign_in_link import make_link
from distribution.models import Grant, Release
from distribution.services import fan_out_grants, publish_release
from distribution.tickets import issue_ticket
from groups.models import Contact, Creator, Group, Membership, Staff
from groups.rights import RIGHTS, Right
from groups.services import paste_list
from library.models import Bundle, File, Holding, LibraryEntry
from library.services import open_upload
from messaging.models import Chunk, Delivery, Message
from messaging.services import start_message, start_reminder
from messaging.tokens import preferences_token, why_token
from studio import urls as studio_urls
from studio.scope import checked
from tests import factories

ClientOf = Callable[[User | None], Client]

SIGN_IN = 302  # to the sign-in page, and back here afterwards
NOT_HERE = 404
NO_METHOD = ONLY_POST = 405
LEADS_BACK = 302  # does something when it is posted to; opened, it leads to the page it belongs to


@dataclass(frozen=True)
class Row:
    """What a GET answers to each role, and the arguments of the address: names in the world below, or literals."""

    anonymous: int
    stranger: int
    member: int
    owner: int
    args: tuple[str | int, ...] = ()


def public(status: int, *args: str | int) -> Row:
    return Row(status, status, status, status, args)


def own(status: int, *args: str | int) -> Row:
    """A page about whoever is signed in."""
    return Row(SIGN_IN, status, status, status, args)


def of_creator(status: int, *args: str | int) -> Row:
    """A page of the studio: for its owner alone."""
    return Row(SIGN_IN, NOT_HERE, NOT_HERE, status, ("slug", *args))


def of_member(status: int, *args: str | int) -> Row:
    """A page of the library: for whoever holds the thing; not even for the creator who gave it."""
    return Row(SIGN_IN, NOT_HERE, status, NOT_HERE, args)


ROWS: dict[str, Row] = {
    # The front door and the machinery
    "home": Row(200, 302, 302, 302),
    "healthz": public(200),
    "readyz": public(200),
    "metrics": public(200),
    "sign_in_by_link": public(200, "sign_in_token"),
    "mailbox": public(NOT_HERE),
    "mailbox_mail": public(NOT_HERE, "a-mail"),
    "mailbox_html": public(NOT_HERE, "a-mail"),
    "mailbox_raw": public(NOT_HERE, "a-mail"),
    # Links in mails
    "redeem": public(200, "ticket"),
    "redeemed": Row(302, 302, 200, 302, ("ticket",)),
    "redeem-cover": public(200, "ticket", "bundle"),
    "messaging:provider_events": public(ONLY_POST, "postmark"),
    "messaging:unsubscribe": public(200, "preferences_token"),
    "messaging:preferences": public(200, "preferences_token"),
    "messaging:why": public(200, "why_token"),
    "messaging:report": public(200, "why_token"),
    # The library
    "library:home": own(200),
    "library:entry": of_member(200, "entry"),
    "library:download_everything": of_member(200, "entry"),
    "library:download_file": of_member(200, "file"),
    "library:download_release": of_member(200, "holding"),
    "library:cover": Row(SIGN_IN, NOT_HERE, 200, 200, ("bundle",)),
    # The studio
    "studio:start": Row(SIGN_IN, 302, 200, 302),
    "studio:home": of_creator(200),
    "studio:groups": of_creator(200),
    "studio:create_group": of_creator(200),
    "studio:group": of_creator(200, "group"),
    "studio:rename_group": of_creator(200, "group"),
    "studio:archive_group": of_creator(200, "group"),
    "studio:add_member": of_creator(200, "group"),
    "studio:open_import": of_creator(200, "group"),
    "studio:paste_list": of_creator(200, "group"),
    "studio:end_membership": of_creator(200, "membership"),
    "studio:start_again": of_creator(LEADS_BACK, "membership"),
    "studio:import": of_creator(302, "import"),
    "studio:choose_columns": of_creator(200, "import"),
    "studio:choose_mapping": of_creator(200, "import"),
    "studio:apply_import": of_creator(ONLY_POST, "import"),
    "studio:bundles": of_creator(200),
    "studio:create_bundle": of_creator(200),
    "studio:bundle": of_creator(200, "bundle"),
    "studio:edit_bundle": of_creator(200, "bundle"),
    "studio:set_cover": of_creator(LEADS_BACK, "bundle"),
    "studio:archive_bundle": of_creator(200, "bundle"),
    "studio:rename_file": of_creator(200, "file"),
    "studio:remove_file": of_creator(200, "file"),
    "studio:create_upload": of_creator(ONLY_POST, "bundle"),
    "studio:add_files": of_creator(ONLY_POST, "bundle"),
    "studio:upload_state": of_creator(200, "upload"),
    "studio:put_part": of_creator(ONLY_POST, "upload", 1),
    "studio:complete_upload": of_creator(ONLY_POST, "upload"),
    "studio:cancel_upload": of_creator(ONLY_POST, "upload"),
    "studio:releases": of_creator(200),
    "studio:start_release": of_creator(LEADS_BACK),
    "studio:release": of_creator(200, "release"),
    "studio:recipients": of_creator(200, "release"),
    "studio:unschedule_release": of_creator(LEADS_BACK, "release"),
    "studio:take_newest": of_creator(LEADS_BACK, "release"),
    "studio:recall_release": of_creator(200, "release"),
    "studio:give_again": of_creator(LEADS_BACK, "release"),
    "studio:revoke_grant": of_creator(200, "grant"),
    "studio:pause_message": of_creator(LEADS_BACK, "release", "message"),
    "studio:resume_message": of_creator(LEADS_BACK, "release", "message"),
    "studio:cancel_message": of_creator(200, "release", "message"),
    # It runs already: its time is not changed any more.
    "studio:reschedule_message": of_creator(LEADS_BACK, "release", "message"),
    "studio:undelivered": of_creator(200, "release"),
    "studio:resend": of_creator(LEADS_BACK, "release"),
    "studio:change_address": of_creator(200, "release", "delivery"),
    "studio:reminder": of_creator(200, "release"),
    "studio:preview_reminder": of_creator(200, "release"),
    "studio:confirm_reminder": of_creator(LEADS_BACK, "release"),
    "studio:compose": of_creator(200, "draft"),
    "studio:preview_mail": of_creator(200, "draft"),
    "studio:check": of_creator(LEADS_BACK, "release"),
    "studio:check_reminder": of_creator(LEADS_BACK, "release"),
    "studio:check_part": of_creator(200, "draft", "mailed"),
    "studio:send_test": of_creator(LEADS_BACK, "draft"),
    "studio:confirm_release": of_creator(LEADS_BACK, "draft"),
    "studio:publish_release": of_creator(LEADS_BACK, "draft"),
    "studio:delete_draft": of_creator(200, "draft"),
    "studio:settings": of_creator(200),
    "studio:set_pace": of_creator(200, "group"),
    # Signing in and the own account
    "account_login": Row(200, 302, 302, 302),
    "account_signup": Row(200, 302, 302, 302),
    "account_request_login_code": Row(200, 302, 302, 302),
    "account_confirm_login_code": public(302),
    "account_email_verification_sent": public(302),
    "account_inactive": public(200),
    "account_reset_password": public(200),
    "account_confirm_password_reset_code": public(302),
    "account_password_reset_completed": public(200),
    "account_complete_password_reset": public(302),
    "account_logout": Row(302, 200, 200, 200),
    # Nobody in the cast has a password to give again: a code is sent instead.
    "account_reauthenticate": own(302),
    "again": own(200),
    "mfa_index": own(200),
    "mfa_authenticate": public(302),
    # Whoever has no second factor is asked for what they have, and has nothing to look at or take away.
    "mfa_reauthenticate": own(302),
    "mfa_activate_totp": own(302),
    "mfa_deactivate_totp": own(404),
    "mfa_view_recovery_codes": own(404),
    "mfa_generate_recovery_codes": own(302),
    "mfa_download_recovery_codes": own(404),
    "mfa_list_webauthn": own(200),
    "mfa_add_webauthn": own(302),
    "mfa_reauthenticate_webauthn": own(302),
    "mfa_remove_webauthn": own(302, 1),
    "mfa_edit_webauthn": own(302, 1),
    "account_email": own(200),
    "account_change_password": own(302),
    "account_set_password": own(200),
}


def addresses() -> Iterator[str]:
    """The name of every pattern. Django's admin is left out: it is for installation admins only and guards itself
    (tests/config and each room's test_admin say who gets in); its addresses come from the models, not from us."""

    def walk(patterns: list[Any], space: str) -> Iterator[str]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                if pattern.namespace != "admin":
                    inner = f"{space}{pattern.namespace}:" if pattern.namespace else space
                    yield from walk(pattern.url_patterns, inner)
            else:
                assert isinstance(pattern, URLPattern)
                yield f"{space}{pattern.name}"

    return walk(get_resolver().url_patterns, "")


@pytest.fixture
def world(
    creator: Creator, owner: User, member: User, contact: Contact, hobbyist: Group, now: datetime
) -> dict[str, str | int]:
    """One of everything a creator and a member have; the numbers by which it is asked for."""
    bundle: Bundle = factories.BundleFactory.create(creator=creator)
    bundle.cover.save("cover.webp", ContentFile(b"RIFF"))
    release = factories.ReleaseFactory.create(creator=creator, bundles=[bundle], groups=[hobbyist])
    publish_release(release, publish_at=now, by=owner, now=now)
    fan_out_grants(release.pk, now=now)
    draft: Release = factories.ReleaseFactory.create(creator=creator, bundles=[bundle], groups=[hobbyist])
    start_message(draft)
    grant = Grant.objects.get(contact=contact)
    message, delivery = told(release, grant, now)
    release.refresh_from_db()
    start_reminder(release, now=now)
    upload = open_upload(bundle, "more.stl", 10, by=owner, now=now)
    return {
        "slug": creator.slug,
        "group": hobbyist.pk,
        "membership": Membership.objects.get(contact=contact).pk,
        "import": paste_list(hobbyist, "new@example.org", by=owner, now=now).pk,
        "bundle": bundle.pk,
        "file": File.objects.get(version__bundle=bundle).pk,
        "upload": upload.pk,
        "release": release.pk,
        "draft": draft.pk,
        "grant": grant.pk,
        "message": message.pk,
        "delivery": delivery.pk,
        "entry": LibraryEntry.objects.get(user=member).pk,
        "holding": Holding.objects.get(entry__user=member).pk,
        "ticket": issue_ticket(grant.pk, grant.generation),
        "preferences_token": preferences_token(contact.pk),
        "why_token": why_token(delivery.pk),
        "sign_in_token": make_link(factories.UserFactory.create()).rstrip("/").rpartition("/")[2],
    }


def told(release: Release, grant: Grant, now: datetime) -> tuple[Message, Delivery]:
    """The release's mail, which is being sent and did not reach the member."""
    message = start_message(release)
    Message.objects.filter(pk=message.pk).update(
        state="running", request_id=uuid4(), due_at=now, planned_at=now, started_at=now
    )
    Chunk.objects.create(message=message, number=0, after=0, until=grant.contact_id, tally={"failed": 1})
    address = grant.contact.address_key
    delivery = Delivery.objects.create(
        message=message, grant=grant, contact=grant.contact, address_key=address, state="failed"
    )
    return message, delivery


def together(names: Iterable[str]) -> pytest.MarkDecorator:
    """`names` by tens: a test changes nothing of the world it asks, and making one costs more than asking it."""
    every = list(names)
    tens = [every[at : at + 10] for at in range(0, len(every), 10)]
    return pytest.mark.parametrize("names", tens, ids=lambda ten: f"{ten[0]}…{ten[-1]}")


def path_of(name: str, world: dict[str, str | int]) -> str:
    return reverse(name, args=[world.get(str(arg), arg) for arg in ROWS[name].args])


def test_every_address_has_a_row_and_every_row_an_address() -> None:
    assert sorted(addresses()) == sorted(ROWS)


@together(ROWS)
def test_each_role_gets_what_the_row_says(
    names: list[str],
    world: dict[str, str | int],
    client_of: ClientOf,
    owner: User,
    member: User,
    stranger: User,
    settings: LazySettings,
) -> None:
    settings.MAILBOX = False
    people = {"anonymous": None, "stranger": stranger, "member": member, "owner": owner}
    browsers = {role: client_of(person) for role, person in people.items()}
    for name, role in product(names, browsers):
        answer = browsers[role].get(path_of(name, world))
        b"".join(answer)  # a file that is never read is never closed
        assert answer.status_code == getattr(ROWS[name], role), f"{name} to {role}"


LEADING_BACK = {"studio:start_again", "studio:set_cover", "studio:unschedule_release"} | {
    "studio:take_newest",
    "studio:send_test",
    "studio:confirm_release",
    "studio:publish_release",
    "studio:give_again",
    "studio:pause_message",
    "studio:resume_message",
    "studio:resend",
    "studio:confirm_reminder",
}


def unknown_to(name: str, method: str) -> set[int]:
    """What an address may answer about a thing that is none of theirs; one leads to their own list of groups."""
    led_to_a_list = name == "studio:start_again" and method == "get"
    return {200} if led_to_a_list else {NOT_HERE, NO_METHOD}


OF_OTHERS = [name for name, row in ROWS.items() if NOT_HERE in (row.stranger, row.member, row.owner)]
OF_OTHERS = [name for name in OF_OTHERS if not name.startswith("mailbox")]


def rows_everywhere() -> dict[str, int]:
    """How many rows each table has, those left out that any request writes."""
    models = chain.from_iterable(config.get_models() for config in apps.get_app_configs())
    tables = [model._meta.db_table for model in models if model.__name__ != "Session"]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in tables))
        return dict(cursor.fetchall())


@together(OF_OTHERS)
def test_outsiders_change_nothing_by_any_method(
    names: list[str],
    world: dict[str, str | int],
    client_of: ClientOf,
    owner: User,
    member: User,
    stranger: User,
) -> None:
    browsers = {"stranger": client_of(stranger), "member": client_of(member), "owner": client_of(owner)}
    before, nobody = rows_everywhere(), client_of(None)
    for name in names:
        for role, browser in browsers.items():
            if getattr(ROWS[name], role) == NOT_HERE:
                for method in ("post", "put", "delete", "patch", "head"):
                    answer = getattr(browser, method)(path_of(name, world))
                    # A page that knows no such method says so before it looks for anything.
                    assert answer.status_code in {NOT_HERE, NO_METHOD}, f"{method} {name}"
        for method in ("post", "put", "delete"):
            assert getattr(nobody, method)(path_of(name, world)).status_code == SIGN_IN
        assert rows_everywhere() == before, name


# What asks for more than to look: for helpers, for managers, for owners. All else in the studio only reads.
PREPARES = {
    f"studio:{name}"
    for name in [
        "create_group",
        "rename_group",
        "archive_group",
        "add_member",
        "open_import",
        "paste_list",
        "end_membership",
        "start_again",
        "choose_columns",
        "choose_mapping",
        "apply_import",
        "create_bundle",
        "edit_bundle",
        "set_cover",
        "archive_bundle",
        "rename_file",
        "remove_file",
        "create_upload",
        "add_files",
        "upload_state",
        "put_part",
        "complete_upload",
        "cancel_upload",
        "start_release",
        "send_test",
        "delete_draft",
    ]
}
SENDS = {
    f"studio:{name}"
    for name in [
        "unschedule_release",
        "take_newest",
        "recall_release",
        "give_again",
        "revoke_grant",
        "pause_message",
        "resume_message",
        "cancel_message",
        "reschedule_message",
        "resend",
        "change_address",
        "reminder",
        "confirm_reminder",
        "check_reminder",
        "confirm_release",
        "publish_release",
    ]
}
RUNS = {"studio:set_pace"}
# Looked at by all, changed by some.
LOOKED_AT = {"studio:compose": Right.PREPARE, "studio:settings": Right.RUN}
OF_STAFF = [name for name in ROWS if name.startswith("studio:") and name != "studio:start"]
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


def right_asked(name: str, method: str) -> Right:
    for names, right in ((PREPARES, Right.PREPARE), (SENDS, Right.SEND), (RUNS, Right.RUN)):
        if name in names:
            return right
    return LOOKED_AT.get(name, Right.READ) if method not in {"get", "head"} else Right.READ


@pytest.fixture
def staff_of(creator: Creator, client_of: ClientOf) -> Callable[[str], Client]:
    """Somebody with a role in the creator's studio, at a browser."""

    def at_a_browser(role: str) -> Client:
        person = factories.UserFactory.create()
        Staff.objects.create(creator=creator, user=person, role=role)
        return client_of(person)

    return at_a_browser


@together(OF_STAFF)
def test_each_role_of_the_staff_may_do_what_its_rights_say_by_any_method(
    names: list[str], world: dict[str, str | int], staff_of: Callable[[str], Client]
) -> None:
    staff = {role: staff_of(role) for role in RIGHTS}
    before = rows_everywhere()
    for name, role, method in product(names, staff, METHODS):
        address, right = path_of(name, world), right_asked(name, method)
        if right in RIGHTS[role] and right != Right.READ and method not in {"get", "head"}:
            continue  # What they may do is done in the tests of each page.
        answer = getattr(staff[role], method)(address)
        b"".join(answer)
        if right not in RIGHTS[role]:
            assert answer.status_code == 403, f"{method} {name} by {role}"
            assert rows_everywhere() == before, f"{method} {name} by {role}"
        elif method in {"get", "head"}:
            assert answer.status_code in {ROWS[name].owner, ONLY_POST}, f"{method} {name} by {role}"
        else:
            assert answer.status_code == NO_METHOD, f"{method} {name} by {role}"


@together(name for name in OF_STAFF if right_asked(name, "get") == Right.READ)
def test_no_page_offers_what_its_reader_may_not_do(
    names: list[str], world: dict[str, str | int], staff_of: Callable[[str], Client]
) -> None:
    staff = {role: staff_of(role) for role in RIGHTS}
    for name, role in product(names, staff):
        page = staff[role].get(path_of(name, world)).content.decode()
        for attribute, address in re.findall(
            r'(href|action|formaction|data-create|hx-post)="(/studio/[^"?#]*)', page
        ):
            found = resolve(address)
            right = right_asked(found.view_name, "get" if attribute == "href" else "post")
            if found.view_name in OF_STAFF:
                assert right in RIGHTS[role], f"{name} offers {address} to a {role}"


@together(name for name in OF_OTHERS if name.startswith("studio:") and ROWS[name].args != ("slug",))
def test_numbers_of_another_creator_are_unknown_under_the_own_address(
    names: list[str], world: dict[str, str | int], client_of: ClientOf, stranger: User
) -> None:
    browser = client_of(stranger)
    for name, method in product(names, ("get", "post", "put")):
        follow = method == "get" and name in LEADING_BACK
        path = path_of(name, {**world, "slug": "sams-shop"})
        answer = getattr(browser, method)(path, follow=follow)
        assert answer.status_code in unknown_to(name, method), f"{method} {name}"


@together(name for name in OF_OTHERS if len(ROWS[name].args) > 1)
def test_numbers_that_nothing_has_are_unknown(
    names: list[str], world: dict[str, str | int], client_of: ClientOf, owner: User
) -> None:
    browser = client_of(owner)
    for name, method, number in product(names, ("get", "post"), (0, 2**31, 2**63, 10**30)):
        thing = str(ROWS[name].args[1])
        follow = method == "get" and name in LEADING_BACK
        answer = getattr(browser, method)(path_of(name, {**world, thing: number}), follow=follow)
        assert answer.status_code in unknown_to(name, method), f"{method} {name} {number}"


def test_a_page_of_the_studio_that_names_no_right_stops_the_start() -> None:
    def forgotten(request: HttpRequest, slug: str) -> HttpResponse:
        return HttpResponse("open")

    with pytest.raises(ImproperlyConfigured, match="forgotten"):
        checked([path("<slug:slug>/forgotten/", forgotten, name="forgotten")])


def test_every_page_of_the_studio_names_its_right() -> None:
    found = {f"studio:{pattern.name}": pattern.callback.right for pattern in studio_urls.urlpatterns}
    assert found.pop("studio:start") is None
    assert found == {name: right_asked(name, "get") for name in OF_STAFF}

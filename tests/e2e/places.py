"""Every page there is: who opens it, and where it is in the demo. Said as JSON inside a running site's own environment."""

import json
import re
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

# Names that lead to no page: the target of a form, a file, a picture, a part of a page, a step that only follows another.
NOT_PAGES = {
    "account_change_password": "asks for a password; the demo's people have none: account_set_password",
    "account_complete_password_reset": "follows a code",
    "account_confirm_login_code": "follows account_request_login_code: the journey walks it",
    "account_confirm_password_reset_code": "follows account_reset_password",
    "account_email_verification_sent": "follows account_signup: the journey walks it",
    "account_inactive": "for a closed account",
    "account_password_reset_completed": "follows a code",
    "account_reauthenticate": "asks for a password",
    "mfa_authenticate": "follows signing in: test_passkeys walks it",
    "mfa_download_recovery_codes": "a file",
    "healthz": "text",
    "readyz": "JSON",
    "metrics": "numbers for a machine",
    "messaging:provider_events": "providers post there",
    "mailbox_html": "the frame in mailbox_mail",
    "mailbox_raw": "text",
    "redeem-cover": "a picture",
    "redeemed": "follows redeem: the journey walks it",
    "library:cover": "a picture",
    "library:download_everything": "a file",
    "library:download_file": "a file",
    "library:download_release": "a file",
    "studio:add_files": "a form's target",
    "studio:apply_import": "a form's target",
    "studio:cancel_upload": "a form's target",
    "studio:choose_columns": "a form's target",
    "studio:complete_upload": "a form's target",
    "studio:confirm_release": "a form's target",
    "studio:create_upload": "a form's target",
    "studio:check": "a part of studio:compose",
    "studio:check_reminder": "a part of studio:reminder",
    "studio:preview_mail": "the frame in studio:compose",
    "studio:confirm_reminder": "a form's target",
    "studio:give_again": "a form's target",
    "studio:pause_message": "a form's target",
    "studio:preview_reminder": "the frame in studio:reminder",
    "studio:publish_release": "a form's target",
    "studio:resend": "a form's target",
    "studio:resume_message": "a form's target",
    "studio:put_part": "a form's target",
    "studio:send_test": "a form's target",
    "studio:set_cover": "a form's target",
    "studio:set_pace": "a form's target",
    "studio:start_again": "a form's target",
    "studio:start_release": "a form's target",
    "studio:unschedule_release": "a form's target",
    "studio:take_newest": "a form's target",
    "studio:upload_state": "JSON",
}


def names(resolver: Any, inside: str = "") -> Iterator[str]:
    """Every URL's name but the stock admin's."""
    for pattern in resolver.url_patterns:
        if not hasattr(pattern, "url_patterns"):
            yield f"{inside}{pattern.name}"
        elif pattern.namespace != "admin":
            yield from names(pattern, f"{inside}{pattern.namespace}:" if pattern.namespace else inside)


def say() -> None:
    """Prints `{"links": role → sign-in link, "pages": [[role, name, path]], "named": every URL's name}`."""
    from django.urls import get_resolver  # noqa: PLC0415 – nothing of Django before it is set up

    from accounts.models import User  # noqa: PLC0415
    from config.sign_in_link import make_link  # noqa: PLC0415

    # Whoever is asked again after five minutes comes first.
    people = {
        "careful": "careful@example.org",
        "newcomer": "new@example.org",
        "member": "jo@example.org",
        "creator": "ana@example.org",
    }
    for role in ("careful", "newcomer"):
        User.objects.get_or_create(email=people[role])
    links = {role: make_link(User.objects.get(email=address)) for role, address in people.items()}
    pages = [(role, name, path_of(name, args)) for role, name, *args in rows()]
    sys.stdout.write(json.dumps({"links": links, "pages": pages, "named": sorted(names(get_resolver()))}))


def path_of(name: str, args: list[Any]) -> str:
    from django.urls import reverse  # noqa: PLC0415

    # A name may be had in several states: `studio:import (dry run)`.
    return reverse(name.partition(" ")[0], args=args)


def rows() -> Iterator[tuple[Any, ...]]:
    """Role, the URL's name, and its arguments in the demo."""
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes  # noqa: PLC0415

    from accounts.models import User  # noqa: PLC0415
    from distribution.tickets import issue_ticket  # noqa: PLC0415
    from groups.models import Creator  # noqa: PLC0415
    from library.models import LibraryEntry  # noqa: PLC0415
    from tests.signing_in import passkey_of, totp_of  # noqa: PLC0415

    creator = Creator.objects.get(slug="anas-forge")
    slug, patrons = creator.slug, creator.groups.get(parent=None, kind="patrons")
    collector, bundle = creator.groups.get(name="Collector"), creator.bundles.get(title="Clockwork Gears")
    sent, draft = (
        creator.releases.get(title=title) for title in ("Clockwork and castle", "Vases and a moon")
    )
    jo = User.objects.get(email="jo@example.org")
    kept, mail = a_mail()

    yield "stranger", "home"
    for name in ("account_login", "account_signup", "account_request_login_code", "account_reset_password"):
        yield "stranger", name
    yield "stranger", "mailbox"
    yield "stranger", "mailbox_mail", kept
    yield "stranger", "sign_in_by_link", "spent"
    yield "stranger", "redeem", token_in(mail, "redeem")
    yield "stranger", "redeem (unknown)", "forged"
    yield "stranger", "messaging:unsubscribe", token_in(mail, "unsubscribe")
    yield "stranger", "messaging:preferences", token_in(mail, "preferences")
    yield "stranger", "messaging:why", token_in(mail, "why")
    yield "stranger", "messaging:report", token_in(mail, "why")
    yield "stranger", "library:entry (nobody's)", 0

    careful = User.objects.get(email="careful@example.org")
    totp_of(careful)
    RecoveryCodes.activate(careful)
    passkey = passkey_of(careful, "My laptop")
    for name in (
        "mfa_index (in use)",
        "mfa_deactivate_totp",
        "mfa_view_recovery_codes",
        "mfa_generate_recovery_codes",
        "mfa_list_webauthn",
        "mfa_add_webauthn (second)",
        "mfa_reauthenticate",
        "mfa_reauthenticate_webauthn",
    ):
        yield "careful", name
    for name in ("mfa_edit_webauthn", "mfa_remove_webauthn"):
        yield "careful", name, passkey.pk
    yield "newcomer", "mfa_list_webauthn (none)"
    yield "newcomer", "library:home (empty)"
    yield "newcomer", "studio:start"
    yield "member", "library:home"
    yield "member", "library:entry", LibraryEntry.objects.filter(user=jo).earliest("pk").pk
    for name in (
        "account_email",
        "account_set_password",
        "again",
        "mfa_index",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "account_logout",
    ):
        yield "member", name

    for name in ("home", "groups", "create_group", "bundles", "create_bundle", "releases", "settings"):
        yield "creator", f"studio:{name}", slug
    for name in ("group", "rename_group", "archive_group", "add_member", "open_import", "paste_list"):
        yield "creator", f"studio:{name}", slug, patrons.pk
    yield "creator", "studio:group (sub group)", slug, collector.pk
    yield "creator", "studio:end_membership", slug, collector.memberships.earliest("pk").pk
    opened, checked = two_imports(patrons)
    yield "creator", "studio:choose_mapping", slug, opened
    yield "creator", "studio:import (dry run)", slug, checked
    yield "creator", "studio:import", slug, patrons.imports.earliest("pk").pk
    for name in ("bundle", "edit_bundle", "archive_bundle"):
        yield "creator", f"studio:{name}", slug, bundle.pk
    file = bundle.versions.earliest("pk").files.earliest("pk")
    for name in ("rename_file", "remove_file"):
        yield "creator", f"studio:{name}", slug, file.pk
    for name in ("release", "recipients"):
        yield "creator", f"studio:{name}", slug, sent.pk
    for name in ("compose", "delete_draft"):
        yield "creator", f"studio:{name}", slug, draft.pk
    yield "creator", "studio:check_part", slug, draft.pk, "mailed"
    for name in ("undelivered", "recall_release", "reminder"):
        yield "creator", f"studio:{name}", slug, sent.pk
    yield "creator", "studio:revoke_grant", slug, sent.grants.earliest("pk").pk
    yield (
        "creator",
        "studio:change_address",
        slug,
        sent.pk,
        sent.messages.earliest("pk").deliveries.earliest("pk").pk,
    )
    later = scheduled(creator)
    yield "creator", "studio:release (scheduled)", slug, later.release_id
    for name in ("cancel_message", "reschedule_message"):
        yield "creator", f"studio:{name}", slug, later.release_id, later.pk
    mistake = recalled(creator)
    yield "creator", "studio:release (recalled)", slug, mistake.pk
    yield "member", "library:entry (recalled)", jo.library.get(bundle__release_items__release=mistake).pk
    waiting = mistake.grants.filter(contact__account=None).earliest("pk")
    yield "stranger", "redeem (recalled)", issue_ticket(waiting.pk, waiting.generation)


def a_mail() -> tuple[str, EmailMessage]:
    from django.conf import settings  # noqa: PLC0415

    # Of somebody who has no account yet.
    for path in sorted(Path(settings.MAILBOX_DIR).glob("*.eml")):
        mail = message_from_bytes(path.read_bytes(), _class=EmailMessage, policy=policy.default)
        from groups.models import Contact  # noqa: PLC0415

        if Contact.objects.filter(
            address_key=str(mail["To"]).rpartition("<")[2].strip(">"), account=None
        ).exists():
            return path.stem, mail
    raise LookupError("no mail to somebody without an account")


def token_in(mail: EmailMessage, path: str) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    found = re.search(rf"/{path}/([^\s/]+)/", body.get_content())
    assert found, body.get_content()
    return found[1]


def scheduled(creator: Any) -> Any:
    """A mail that waits for its day."""
    from datetime import timedelta  # noqa: PLC0415
    from uuid import uuid4  # noqa: PLC0415

    from django.utils import timezone  # noqa: PLC0415

    from distribution import services  # noqa: PLC0415
    from messaging.services import confirm_message, start_message  # noqa: PLC0415

    title, now = "Something for the holidays", timezone.now()
    release = creator.releases.filter(title=title).first() or services.start_release(creator, now=now)
    message = start_message(release)
    if message.state == "draft":
        services.choose_bundles(release, creator.bundles.filter(title="Moon Lamp"))
        services.choose_audience(release, creator.groups.filter(parent=None), "at_publishing")
        creator.releases.filter(pk=release.pk).update(title=title)
        type(message).objects.filter(pk=message.pk).update(subject=title)
        due_at, by = now + timedelta(days=20), creator.staff.get().user
        confirm_message(message, request_id=uuid4(), due_at=due_at, by=by, now=now)
    return message


def recalled(creator: Any) -> Any:
    """What was given to everybody by mistake, and taken back."""
    from django.utils import timezone  # noqa: PLC0415

    from distribution import services  # noqa: PLC0415

    title, now, by = "The wrong files", timezone.now(), creator.staff.get().user
    release = creator.releases.filter(title=title).first()
    if release is None:
        release = services.start_release(creator, now=now)
        services.choose_bundles(release, creator.bundles.filter(title="Twisted Vases"))
        services.choose_audience(release, creator.groups.filter(parent=None), "at_publishing")
        creator.releases.filter(pk=release.pk).update(title=title)
        services.publish_release(release, publish_at=now, by=by, now=now)
        services.fan_out_grants(release.pk, now=now)
        services.recall_release(release, because="The vases have holes.", by=by, now=now)
        services.take_back_release(release.pk, now=now)
    return release


def two_imports(patrons: Any) -> tuple[int, int]:
    """One that waits for choices, and one with its dry run made: next month's file."""
    from django.core.files.base import ContentFile  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from config.demo import people  # noqa: PLC0415
    from groups import services  # noqa: PLC0415
    from groups.imports.mapping import Mapping  # noqa: PLC0415
    from groups.models import Import  # noqa: PLC0415

    now = timezone.now()
    listed = people.everyone()[3:]
    moved = [
        (name, address, "Merchant" if tier == "Collector" and n % 5 == 0 else tier)
        for n, (name, address, tier) in enumerate(listed)
    ]
    joined = [
        ("Wren Adeyemi", "wren.adeyemi@example.org", "Collector"),
        ("Ines Costa", "not an address", "Hobbyist"),
    ]
    export = people.patreon_export([*moved, *joined], now=now)
    by = patrons.creator.staff.get().user
    runs = []
    for name in ("patreon-new-members.csv", f"patreon-{now:%Y-%m}.csv"):
        run = Import.objects.filter(group=patrons, file_name=name).first()
        runs.append(run or services.open_import(patrons, ContentFile(export, name=name), by=by, now=now))
    if runs[1].state == Import.State.OPENED:
        services.choose_mapping(runs[1], Mapping.from_json(runs[1].mapping), now=now)
        services.check_import(runs[1].pk, now=now)
    return runs[0].pk, runs[1].pk

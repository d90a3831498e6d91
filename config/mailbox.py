"""Mail that never leaves this machine: kept as files, read in the browser. For trying out, not for the world."""

import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_binary_file, policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from csp.decorators import csp_replace
from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage as OutgoingMail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from config.proxy import PROXIED, read_address

MAILS_A_PAGE = 50
LONGEST_NAME = 100


def refusal() -> str:
    """Why mail may not be kept here, or nothing. A mail that silently goes nowhere is the worst of all."""
    if settings.MAILBOX or not settings.EMAIL_BACKEND.startswith(__name__):
        return ""
    return (
        f"There is no real mail, and this server is meant for others (SITE_URL={settings.SITE_URL}, "
        f"BIND={settings.BIND}). Set EMAIL_URL (or EMAIL_BACKEND and ANYMAIL_…); see .env.example."
    )


def refuse_without_real_mail() -> None:
    """Raises ImproperlyConfigured, so that no server starts that would keep other people's mail to itself."""
    if words := refusal():
        raise ImproperlyConfigured(words)


def check_mail(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [Error(words, id="config.E001")] if (words := refusal()) else []


class MailboxBackend(BaseEmailBackend):
    """Keeps each mail as one .eml file in settings.MAILBOX_DIR, whole or not at all, named by its time."""

    def __init__(self, fail_silently: bool = False, **kwargs: Any) -> None:
        super().__init__(fail_silently=fail_silently, **kwargs)
        refuse_without_real_mail()

    def send_messages(self, email_messages: Sequence[OutgoingMail]) -> int:
        folder = Path(settings.MAILBOX_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        kept = [keep(mail, folder) for mail in email_messages if mail.recipients()]
        return len(kept)


def keep(mail: OutgoingMail, folder: Path) -> Path:
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    unfinished = folder / f".{name}"
    unfinished.write_bytes(mail.message().as_bytes())
    return unfinished.rename(folder / f"{name}.eml")


@dataclass(frozen=True)
class Kept:
    """One mail as the pages show it."""

    name: str
    mail: EmailMessage

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(int(self.name.partition("-")[0]) / 1e9, tz=UTC)

    @property
    def subject(self) -> str:
        return str(self.mail["Subject"] or _("(no subject)"))

    @property
    def to(self) -> str:
        return str(self.mail["To"] or "")

    @property
    def sender(self) -> str:
        return str(self.mail["From"] or "")

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [(key, str(value)) for key, value in self.mail.items()]

    def words(self, kind: str) -> str:
        """The mail's text (`plain`) or its HTML, or nothing."""
        part = self.mail.get_body((kind,))
        if part is None:
            return ""
        # Not get_content(): it raises at a character set it never heard of.
        return bytes(part.get_payload(decode=True) or b"").decode("utf-8", "replace")

    @property
    def text(self) -> str:
        return self.words("plain")

    @property
    def html(self) -> str:
        return self.words("html")


def names() -> list[str]:
    """Every kept mail, the newest first. Names only: 20,000 mails are listed without opening one."""
    try:
        with os.scandir(settings.MAILBOX_DIR) as found:
            return sorted((entry.name[:-4] for entry in found if entry.name.endswith(".eml")), reverse=True)
    except FileNotFoundError:
        return []


def path_of(name: str) -> Path:
    path = Path(settings.MAILBOX_DIR) / f"{name}.eml"
    # Longer than a disk's names is an OSError to `Path.is_file`.
    if len(name) > LONGEST_NAME or not path.is_file():
        raise Http404
    return path


def only_here(request: HttpRequest) -> None:
    """404 unless this is the machine's own browser: elsewhere the page does not exist.

    A proxy on this machine is near too, and may rewrite Host: whoever comes through one is not (the plainest add no
    header, but speak HTTP/1.0). And a page elsewhere whose name was made to lead here asks by that name.
    """
    peer = read_address(request.META.get("REMOTE_ADDR", ""))
    straight = peer is not None and peer.is_loopback and not any(name in request.META for name in PROXIED)
    straight = straight and request.META.get("SERVER_PROTOCOL") != "HTTP/1.0"
    host = split_domain_port(request.get_host())[0].strip("[]")
    by_our_name = host in {urlsplit(settings.SITE_URL).hostname, "localhost", "127.0.0.1", "::1"}
    if not (settings.MAILBOX and straight and by_our_name):
        raise Http404


@login_not_required
@require_safe
def mailbox(request: HttpRequest) -> HttpResponse:
    only_here(request)
    page = Paginator(names(), MAILS_A_PAGE).get_page(request.GET.get("page"))
    parse = BytesHeaderParser(policy=policy.default).parsebytes
    mails = [Kept(name, parse(path_of(name).read_bytes())) for name in page]
    return render(request, "config/mailbox.html", {"page": page, "mails": mails})


@login_not_required
@require_safe
def mailbox_mail(request: HttpRequest, name: str) -> HttpResponse:
    only_here(request)
    return render(request, "config/mailbox_mail.html", {"kept": read(name)})


@login_not_required
@require_safe
@xframe_options_sameorigin
@csp_replace(  # type: ignore[untyped-decorator]
    {
        # Mail brings its own styles; the sandbox takes everything else from it but links to click.
        "style-src": ["'unsafe-inline'"],
        "default-src": ["'none'"],
        "script-src": ["'none'"],
        "frame-ancestors": ["'self'"],
        "sandbox": ["allow-popups", "allow-popups-to-escape-sandbox"],
    }
)
def mailbox_html(request: HttpRequest, name: str) -> HttpResponse:
    only_here(request)
    html = read(name).html
    aimed, found = re.subn(r"<head[^>]*>", r'\g<0><base target="_blank">', html, count=1)
    return HttpResponse(aimed if found else f'<base target="_blank">{html}')


@login_not_required
@require_safe
def mailbox_raw(request: HttpRequest, name: str) -> HttpResponse:
    only_here(request)
    return HttpResponse(path_of(name).read_bytes(), content_type="text/plain; charset=utf-8")


def read(name: str) -> Kept:
    with path_of(name).open("rb") as file:
        return Kept(name, message_from_binary_file(file, _class=EmailMessage, policy=policy.default))

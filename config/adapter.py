"""What happens around signing in, handed to django-allauth."""

import secrets
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.core import context as allauth_context
from allauth.core.exceptions import ReauthenticationRequired
from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import asked, tasks
from accounts.addresses import AddressRefused, address_key
from accounts.models import User
from accounts.services import post_letter
from config.again import end_other_sessions, has_second_factor, has_shown_it
from config.proxy import shortened
from config.second_factor import seal_anew
from config.sign_in import say_sign_in
from distribution.services import settle_waiting
from distribution.views import PRESSED

PASSKEY = "mfa_reauthenticate:webauthn"
WORDS = {
    "mfa_reauthenticate": {"description": _("Type a code instead")},
    PASSKEY: {"description": _("Use a passkey instead")},
}


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Addresses are stored as their key; what allauth mails goes out as a letter, by a worker."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": _("That address and that password do not belong together."),
        "duplicate_email": _("This e-mail address is yours already."),
        "cannot_remove_primary_email": _("This is your main address. Make another one the main one first."),
    }

    def clean_email(self, email: str) -> str:
        try:
            return address_key(super().clean_email(email))
        except AddressRefused as refused:
            raise forms.ValidationError(str(refused)) from refused

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        """What waited for the address is there, and the main one hears of it: whoever added it may be somebody else."""
        confirmed = bool(super().confirm_email(request, email_address))
        if confirmed:
            settle_waiting(email_address.user, now=timezone.now())
            main = EmailAddress.objects.get_primary_email(email_address.user)
            if main and main != email_address.email:
                context = {"added_email": email_address.email}
                self.send_notification_mail("account/email/email_added", email_address.user, context)
        return confirmed

    def can_delete_email(self, email_address: EmailAddress) -> bool:
        """Not the main one, and not the last that is known to be theirs."""
        others = EmailAddress.objects.filter(user=email_address.user, verified=True).exclude(
            pk=email_address.pk
        )
        may = bool(super().can_delete_email(email_address)) and (
            not email_address.verified or others.exists()
        )
        # Whether it was confirmed is known no more when it is told: who merely claimed an address mails nobody.
        allauth_context.request.removed_address = (
            email_address.email if may and email_address.verified else ""
        )
        return may

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Asked before addresses, passwords and second factors change. Raises ReauthenticationRequired by itself, as
        allauth takes whoever has neither a password nor a second factor for somebody who cannot be asked.
        """
        request = allauth_context.request
        if not has_shown_it(request, request.user):
            raise ReauthenticationRequired
        return False

    def get_reauthentication_methods(self, user: User) -> list[dict[str, Any]]:
        """A second factor if there is one, and then nothing less; else a password or a code to the main address."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        if has_second_factor(user):
            # A passkey before what is typed.
            kept = [method | WORDS[method["id"]] for method in methods if method["id"] in WORDS]
            return sorted(kept, key=lambda method: method["id"] != PASSKEY)
        code = {"id": "again", "description": _("Send me a code"), "url": reverse("again")}
        return [*methods, code]

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        say_sign_in(request, None, "wrong address or password")

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        """What waited is there, and who pressed Redeem here before signing in lands on what they redeemed."""
        say_sign_in(request, user, "signed in")
        seal_anew(user)
        settle_waiting(user, now=timezone.now())
        if pressed := request.session.pop(PRESSED, None):
            kwargs["redirect_url"] = reverse("redeemed", args=[pressed["ticket"]])
        response: HttpResponse = super().post_login(request, user, **kwargs)
        return response

    def send_notification_mail(
        self,
        template_prefix: str,
        user: User,
        context: dict[str, Any] | None = None,
        email: str | None = None,
    ) -> None:
        """Something that an account hangs on has changed: its old address hears of it, and other browsers are out."""
        request = allauth_context.request
        told = {
            email or EmailAddress.objects.get_primary_email(user),
            getattr(request, "removed_address", ""),
        }
        words = {"network": shortened(request.META.get("REMOTE_ADDR", "")), "timestamp": timezone.now()}
        for address in sorted(filter(None, told)):
            self.send_mail(template_prefix, address, words | (context or {}))
        end_other_sessions(request, user)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Raises TooManyLetters for what anybody can ask for by typing an address."""
        # From the settings, never from the request: whoever forges a Host header must not write our links.
        context["site_url"] = settings.SITE_URL
        message = self.render_mail(template_prefix, email, context)
        kind = template_prefix.rpartition("/")[2]
        now = timezone.now()
        words = {"subject": message.subject, "text": message.body, "code": str(context.get("code") or "")}
        if kind in asked.KINDS:
            asked.post_asked_letter(kind, email, **words, now=now)
        else:
            post_letter(kind, email, **words, dedupe_key=f"{kind}:{secrets.token_hex(16)}", now=now)
        tasks.wake()

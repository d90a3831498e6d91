"""What happens around signing in, handed to django-allauth."""

import secrets
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import tasks
from accounts.addresses import AddressRefused, address_key
from accounts.models import User
from accounts.services import post_letter
from distribution.services import settle_waiting
from distribution.views import PRESSED


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
        confirmed = bool(super().confirm_email(request, email_address))
        if confirmed:
            settle_waiting(email_address.user, now=timezone.now())
        return confirmed

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        """What waited is there, and who pressed Redeem here before signing in lands on what they redeemed."""
        settle_waiting(user, now=timezone.now())
        if pressed := request.session.pop(PRESSED, None):
            kwargs["redirect_url"] = reverse("redeemed", args=[pressed["ticket"]])
        response: HttpResponse = super().post_login(request, user, **kwargs)
        return response

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        # From the settings, never from the request: whoever forges a Host header must not write our links.
        context["site_url"] = settings.SITE_URL
        message = self.render_mail(template_prefix, email, context)
        kind = template_prefix.rpartition("/")[2]
        post_letter(
            kind,
            email,
            subject=message.subject,
            text=message.body,
            code=str(context.get("code") or ""),
            dedupe_key=f"{kind}:{secrets.token_hex(16)}",
            now=timezone.now(),
        )
        tasks.wake()

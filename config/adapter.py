"""What happens around signing in, handed to django-allauth."""

import secrets
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django import forms
from django.conf import settings
from django.utils import timezone

from accounts import tasks
from accounts.addresses import AddressRefused, address_key
from accounts.services import post_letter


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Addresses are stored as their key; what allauth mails goes out as a letter, by a worker."""

    def clean_email(self, email: str) -> str:
        try:
            return address_key(super().clean_email(email))
        except AddressRefused as refused:
            raise forms.ValidationError(str(refused)) from refused

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

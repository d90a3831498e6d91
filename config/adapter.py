"""What happens around signing in, handed to django-allauth."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):
    """Stores every address as its key."""

    def clean_email(self, email: str) -> str:
        return super().clean_email(email)

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> Any:
        return super().confirm_email(request, email_address)

"""The sign-in forms: an address is stored as its key, and a code is guessed three times, however quickly."""

from typing import Any

from allauth.account import forms as allauth
from allauth.account.adapter import get_adapter
from allauth.core import context
from django.core.cache import cache
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

GUESSES = 3
# Longer than any code lives.
REMEMBERED_SECONDS = 3600


class SignupForm(allauth.SignupForm):  # type: ignore[misc]
    """Calls an address what every other page calls it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = _("E-mail address")


class RequestLoginCodeForm(allauth.RequestLoginCodeForm):  # type: ignore[misc]
    """Finds the account of `Zoe@exämple.com` under its key."""

    def clean_email(self) -> str:
        self.cleaned_data["email"] = get_adapter().clean_email(self.cleaned_data["email"])
        return str(super().clean_email())


class CountedGuesses:
    """A guess is counted before it is judged.

    Allauth counts in the session, and of forty guesses that arrive together each reads none: all were judged.
    """

    expected_code: str | None

    def clean_code(self) -> Any:
        if not may_guess(self.expected_code or ""):
            raise get_adapter().validation_error("too_many_login_attempts")
        return super().clean_code()  # type: ignore[misc]


class ConfirmLoginCodeForm(CountedGuesses, allauth.ConfirmLoginCodeForm):  # type: ignore[misc]
    pass


class ConfirmEmailVerificationCodeForm(CountedGuesses, allauth.ConfirmEmailVerificationCodeForm):  # type: ignore[misc]
    pass


class ConfirmPasswordResetCodeForm(CountedGuesses, allauth.ConfirmPasswordResetCodeForm):  # type: ignore[misc]
    pass


def may_guess(code: str) -> bool:
    """Whether this browser has a guess left at this code; one is taken. Exact under races: each mark is made once."""
    whose = salted_hmac("config.sign_in", f"{context.request.session.session_key}:{code}").hexdigest()
    return any(cache.add(f"guess:{whose}:{number}", True, REMEMBERED_SECONDS) for number in range(GUESSES))

"""The sign-in forms: an address is stored as its key, and a code is guessed three times, however quickly."""

import logging
from typing import Any

from allauth.account import forms as allauth
from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from allauth.core import context
from allauth.mfa.base import forms as mfa
from allauth.mfa.models import Authenticator
from allauth.mfa.totp import forms as totp
from allauth.mfa.webauthn import forms as webauthn
from django import forms
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from accounts.models import User
from config.proxy import shortened

log = logging.getLogger(__name__)

GUESSES = 3
# Longer than any code lives.
REMEMBERED_SECONDS = 3600
# The code before, this one and the one after are taken: 90 seconds.
USED_SECONDS = 120


class NamedAddress:
    """Calls an address what every other page calls it, once: above its field, not in it as well."""

    fields: dict[str, forms.Field]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)
            if isinstance(field, forms.EmailField):
                field.label = _("E-mail address")


class SignupForm(NamedAddress, allauth.SignupForm):  # type: ignore[misc]
    pass


class LoginForm(NamedAddress, allauth.LoginForm):  # type: ignore[misc]
    """For whoever has set a password; who has none asks for a code beside it."""

    def _setup_password_field(self) -> None:
        # Allauth takes the field away where no password is asked for at sign-up. Its link stands beside the button.
        self.fields["password"].help_text = ""

    def clean_login(self) -> str:
        return str(get_adapter().clean_email(super().clean_login()))


class ResetPasswordForm(NamedAddress, allauth.ResetPasswordForm):  # type: ignore[misc]
    pass


class AddEmailForm(NamedAddress, allauth.AddEmailForm):  # type: ignore[misc]
    pass


class SetPasswordForm(allauth.SetPasswordForm):  # type: ignore[misc]
    """Allauth lets any session set a first password. Raises ReauthenticationRequired."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.is_bound:
            raise_if_reauthentication_required(context.request, app="allauth.account")


class RequestLoginCodeForm(NamedAddress, allauth.RequestLoginCodeForm):  # type: ignore[misc]
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
        try:
            return super().clean_code()  # type: ignore[misc]
        except forms.ValidationError:
            say_sign_in(context.request, None, "wrong code")
            raise


class ConfirmLoginCodeForm(CountedGuesses, allauth.ConfirmLoginCodeForm):  # type: ignore[misc]
    pass


class ConfirmEmailVerificationCodeForm(CountedGuesses, allauth.ConfirmEmailVerificationCodeForm):  # type: ignore[misc]
    pass


class ConfirmPasswordResetCodeForm(CountedGuesses, allauth.ConfirmPasswordResetCodeForm):  # type: ignore[misc]
    pass


class TypedCode:
    """A code of digits, of an app or for recovery: a phone shows its number pad."""

    fields: dict[str, forms.Field]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = _("Code")
        self.fields["code"].widget.attrs = {
            "inputmode": "numeric",
            "autocomplete": "one-time-code",
            "spellcheck": "false",
        }


class ActivateTOTPForm(TypedCode, totp.ActivateTOTPForm):  # type: ignore[misc]
    pass


class OneUse(TypedCode):
    """A code of an authenticator app opens once, as long as it is good: allauth forgets it after half of that."""

    user: User

    def clean_code(self) -> str:
        try:
            code = str(super().clean_code())  # type: ignore[misc]
            used = salted_hmac(
                "config.sign_in.one_use", f"{self.user.pk}:{''.join(code.split())}"
            ).hexdigest()
            if not cache.add(f"used:{used}", True, USED_SECONDS):
                raise get_adapter().validation_error("incorrect_code")
        except forms.ValidationError:
            say_sign_in(context.request, self.user, "wrong second factor")
            raise
        return code


class AuthenticateForm(OneUse, mfa.AuthenticateForm):  # type: ignore[misc]
    pass


class ReauthenticateForm(OneUse, mfa.ReauthenticateForm):  # type: ignore[misc]
    pass


class ToldPasskey:
    """A passkey that opens nothing is told to the log, as a wrong code is."""

    user: User

    def clean_credential(self) -> Authenticator:
        try:
            return super().clean_credential()  # type: ignore[misc]
        except forms.ValidationError:
            say_sign_in(context.request, self.user, "wrong second factor")
            raise


class AuthenticateWebAuthnForm(ToldPasskey, webauthn.AuthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class ReauthenticateWebAuthnForm(ToldPasskey, webauthn.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    pass


def say_sign_in(request: HttpRequest, user: User | None, what: str) -> None:
    """The log says who did what, and of which network: enough to see somebody trying, too little to follow anybody."""
    who = f"account {user.pk}" if user else "somebody"
    level = logging.WARNING if what.startswith(("wrong", "typed")) else logging.INFO
    log.log(level, "%s: %s, from %s", who, what, shortened(request.META.get("REMOTE_ADDR", "")))


def may_guess(code: str) -> bool:
    """Whether this browser has a guess left at this code; one is taken. Exact under races: each mark is made once."""
    whose = salted_hmac("config.sign_in", f"{context.request.session.session_key}:{code}").hexdigest()
    return any(cache.add(f"guess:{whose}:{number}", True, REMEMBERED_SECONDS) for number in range(GUESSES))

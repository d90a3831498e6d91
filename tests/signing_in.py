"""How people sign in, for tests of what stands around it."""

from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.test import Client
from django.utils import timezone

from accounts.models import Letter, User

LOGIN = "/accounts/login/code/"
SECOND = "/accounts/2fa/"


def code(kind: str) -> str:
    return Letter.objects.filter(kind=kind).latest("pk").code


def sign_in(member: User) -> Client:
    """By a mailed code, up to where a second factor is asked for if there is one."""
    browser = Client()
    browser.post(LOGIN, {"email": member.email})
    browser.post("/accounts/login/code/confirm/", {"code": code("login_code")})
    return browser


def totp_of(user: User) -> str:
    """The secret of the authenticator app that the user has from now on."""
    secret: str = generate_totp_secret()
    TOTP.activate(user, secret)
    return secret


def now_code(secret: str) -> str:
    """What the app shows at this moment."""
    return str(format_hotp_value(hotp_value(secret, int(timezone.now().timestamp()) // 30)))

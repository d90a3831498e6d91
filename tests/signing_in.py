"""How people sign in, for tests of what stands around it."""

import secrets
from hashlib import sha256

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from allauth.mfa.webauthn.internal.auth import WebAuthn
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client
from django.utils import timezone
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

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


def passkey_of(user: User, name: str, host: str = "testserver") -> Authenticator:
    """A passkey whose private half nobody has: enough to be listed, asked for, renamed and removed."""
    public = ES256.from_cryptography_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    here = AttestedCredentialData.create(Aaguid.NONE, secrets.token_bytes(16), public)
    shown = AuthenticatorData.create(
        sha256(host.encode()).digest(), AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.AT, 0, bytes(here)
    )
    asked = CollectedClientData.create(CollectedClientData.TYPE.CREATE, b"", f"https://{host}")
    credential = {
        "id": websafe_encode(here.credential_id),
        "rawId": websafe_encode(here.credential_id),
        "type": "public-key",
        "response": {
            "clientDataJSON": websafe_encode(asked),
            "attestationObject": websafe_encode(AttestationObject.create("none", shown, {})),
        },
    }
    added: Authenticator = WebAuthn.add(user, name, credential).instance
    return added

"""What second factors hang on lies sealed in the database: whoever reads a copy of it makes no codes.

Passkeys need no seal, as theirs is the public half of a key.
"""

import base64
import logging

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import User

log = logging.getLogger(__name__)

# Neither a secret in base32 nor a seed in hex begins like this: what does not was stored before there was a seal.
SEALED = "sealed:"
# What of each kind of row is sealed.
SECRETS = {Authenticator.Type.TOTP: "secret", Authenticator.Type.RECOVERY_CODES: "seed"}


class NoKeyOpensIt(forms.ValidationError, PermissionDenied):
    """It was sealed by a SECRET_KEY that is not known here, or was changed since. A page without a form says so, too."""

    # A page that counts codes shows none.
    silent_variable_failure = True

    def __init__(self) -> None:
        super().__init__(
            _("Your second factor cannot be read here any more. Please tell whoever runs this site.")
        )

    def __str__(self) -> str:
        return str(self.message)


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Seals by SECRET_KEY, and reads what any of SECRET_KEY_FALLBACKS sealed."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "unverified_email": _("One of your addresses is not confirmed yet. Confirm or remove it first."),
    }

    def encrypt(self, text: str) -> str:
        return SEALED + _seal_of(settings.SECRET_KEY).encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Raises NoKeyOpensIt."""
        if not encrypted_text.startswith(SEALED):
            return encrypted_text
        known = MultiFernet([_seal_of(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])
        try:
            return known.decrypt(encrypted_text.removeprefix(SEALED)).decode()
        except InvalidToken as error:
            log.error("a second factor was sealed by another SECRET_KEY: put that into SECRET_KEY_FALLBACKS")
            raise NoKeyOpensIt from error

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:
        """What a passkey is called until its person says where it is."""
        others = Authenticator.objects.filter(user=user, type=type).count()
        return gettext("Passkey {number}").format(number=others + 1) if others else gettext("Passkey")

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Passkeys hold for the host that is asked for; a browser shows them under the site's name."""
        entity: dict[str, str] = super().get_public_key_credential_rp_entity()
        return entity | {"name": settings.SITE_NAME}


def seal_anew(user: User) -> None:
    """What the user's second factors hang on is sealed by the SECRET_KEY of now, if any key opens it. Twice: the same."""
    adapter = MFAAdapter()
    for row in Authenticator.objects.filter(user=user, type__in=SECRETS):
        name = SECRETS[row.type]
        if _is_sealed_by(settings.SECRET_KEY, row.data[name]):
            continue
        try:
            sealed = adapter.encrypt(adapter.decrypt(row.data[name]))
        except NoKeyOpensIt:
            continue
        # A recovery code may be used at this moment: then this row is sealed next time.
        unchanged = Authenticator.objects.filter(pk=row.pk, data=row.data)
        unchanged.update(data=row.data | {name: sealed})


def _is_sealed_by(key: str, stored: str) -> bool:
    try:
        _seal_of(key).decrypt(stored.removeprefix(SEALED))
    except InvalidToken:
        return False
    return stored.startswith(SEALED)


def _seal_of(key: str) -> Fernet:
    # A key of its own: what signs sessions and links opens nothing here.
    own = salted_hmac("config.second_factor", "", secret=key, algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(own))

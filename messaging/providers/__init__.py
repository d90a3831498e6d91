"""How mail leaves: one module a way."""

from django.conf import settings

from messaging.providers.backend import Backend
from messaging.providers.base import Answer, Kind, NotOpen, Provider, SignInRefused
from messaging.providers.smtp import Smtp

__all__ = ["Answer", "Kind", "NotOpen", "Provider", "SignInRefused", "provider"]


def provider() -> Provider:
    """The way the settings name: our own SMTP, which knows how far it came, or any Django or anymail backend."""
    if settings.EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":
        return Smtp()
    return Backend()

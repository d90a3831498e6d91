"""How mail leaves: one module a way."""

from django.conf import settings
from django.utils.module_loading import import_string

from messaging.providers.backend import Backend
from messaging.providers.base import Answer, Kind, NotOpen, Provider, SignInRefused
from messaging.providers.smtp import Smtp

__all__ = ["Answer", "Kind", "NotOpen", "Provider", "SignInRefused", "provider"]

# By what EMAIL_BACKEND says. Looked up by path, as nobody needs the libraries of the others.
HTTP = {
    "anymail.backends.amazon_ses.EmailBackend": "messaging.providers.ses.Ses",
    "anymail.backends.brevo.EmailBackend": "messaging.providers.brevo.Brevo",
    "anymail.backends.mailgun.EmailBackend": "messaging.providers.mailgun.Mailgun",
    "anymail.backends.postmark.EmailBackend": "messaging.providers.postmark.Postmark",
    "anymail.backends.resend.EmailBackend": "messaging.providers.resend.Resend",
}


def provider() -> Provider:
    """The way the settings name: our own SMTP, which knows how far it came; a provider that is called in waves; or
    any other Django or anymail backend."""
    if settings.EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":
        return Smtp()
    if settings.EMAIL_BACKEND in HTTP:
        way: Provider = import_string(HTTP[settings.EMAIL_BACKEND])()
        return way
    return Backend()

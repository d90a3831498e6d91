"""What a request claims about itself, put right before anybody believes it."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse


def believe_no_claims(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Requests are UTF-8, and a session is named by letters and digits; whoever says otherwise is not heard.

    Django would decode a form by any codec its Content-Type names, `charset=base64` too, and break; and it would
    ask PostgreSQL for a session with a NUL in its name.
    """

    def plainly(request: HttpRequest) -> HttpResponse:
        request.encoding = settings.DEFAULT_CHARSET
        session = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        if not (session.isascii() and session.isalnum()):
            request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        return get_response(request)

    return plainly

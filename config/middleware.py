"""What a request claims about itself, put right before anybody believes it."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django_htmx.http import HttpResponseClientRefresh


def believe_no_claims(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Requests are UTF-8, a session is named by letters and digits, and no address has a NUL; whoever says otherwise
    is not heard.

    Django would decode a form by any codec its Content-Type names, `charset=base64` too, and break; and it would
    ask PostgreSQL for a session or, in the admin's filters, for a word with a NUL in it, which no text there has.
    (Forms refuse a NUL by themselves.)
    """

    def plainly(request: HttpRequest) -> HttpResponse:
        request.encoding = settings.DEFAULT_CHARSET
        while "%00" in request.META.get("QUERY_STRING", ""):
            request.META["QUERY_STRING"] = request.META["QUERY_STRING"].replace("%00", "")
        session = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        if not (session.isascii() and session.isalnum()):
            request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        return get_response(request)

    return plainly


class SignInRequired(LoginRequiredMiddleware):
    """Whoever is signed out meanwhile is asked to sign in by the whole page, not by a sign-in page put into a part."""

    def handle_no_permission(  # type: ignore[override]
        self, request: HttpRequest, view_func: Callable[..., HttpResponseBase]
    ) -> HttpResponse:
        if request.headers.get("HX-Request"):
            return HttpResponseClientRefresh()
        return super().handle_no_permission(request, view_func)

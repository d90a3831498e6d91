"""What a request claims about itself, put right before anybody believes it."""

from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRefresh

from accounts.asked import TooManyLetters
from accounts.models import User
from config.again import has_second_factor
from config.views import too_often


def believe_no_claims(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """A session is named by letters and digits, and no address has a NUL; whoever says otherwise is not heard.

    Django would ask PostgreSQL for a session or, in the admin's filters, for a word with a NUL in it, which no text
    there has. (Forms refuse a NUL by themselves; of codecs that a request names see `config.plain_request`.)
    """

    def plainly(request: HttpRequest) -> HttpResponse:
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


def keep_no_copies(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """A page that says nothing of copies is kept by nobody: not by a proxy, and not for the next one at this browser.

    Files, pictures and styles say for themselves how long they last.
    """

    def unkept(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        kind = response.get("Content-Type", "").partition(";")[0]
        if kind in {"text/html", "application/json"} and not response.has_header("Cache-Control"):
            response["Cache-Control"] = "private, no-store"
        return response

    return unkept


class AnswerTooOften:
    """Whatever page asked for one code too many says when the next may go."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, TooManyLetters):
            return too_often(request, seconds=error.seconds, why=str(error))
        return None


class StaffShowTwoThings:
    """With STAFF_MFA an installation's admin gets nowhere but to their account until they have a second factor."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponseBase], args: object, kwargs: object
    ) -> HttpResponse | None:
        user = request.user
        if not (settings.STAFF_MFA and isinstance(user, User) and (user.is_staff or user.is_superuser)):
            return None
        public = not getattr(view, "login_required", True) and not request.path.startswith(
            reverse("admin:index")
        )
        account = request.path.startswith(reverse("account_email").removesuffix("email/"))
        if public or account or has_second_factor(user):
            return None
        messages.info(request, _("Admins sign in with a second factor here. Choose one to go on."))
        return redirect("mfa_index")

"""The front door, and the pages of those who are turned away."""

from collections.abc import Callable

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from groups.models import Creator


@login_not_required
def home(request: HttpRequest) -> HttpResponse:
    """Tells a stranger what this is; brings everybody else to where they work or read."""
    if not request.user.is_authenticated:
        return render(request, "home.html")
    return redirect("studio:start" if Creator.objects.run_by(request.user).exists() else "library:home")


def refusal_page(status: int) -> Callable[[HttpRequest, Exception], HttpResponse]:
    """Django's own would look for a CSRF token in the form, and break on the very form that could not be read."""

    def page(request: HttpRequest, exception: Exception) -> HttpResponse:
        # What we refuse says why; it is safe to show.
        why = str(exception) if isinstance(exception, PermissionDenied) else ""
        if isinstance(exception, (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)):
            why = _(
                "It was more than any page here takes at once. Go back: what you wrote is still there. Send less of it, or "
                "a list of people as a file."
            )
        return render(request, f"{status}.html", {"exception": why}, status=status)

    return page


# What a limit of a minute asks for. Allauth does not say which of its limits was reached; none that answers by this
# page is longer (settings: ACCOUNT_RATE_LIMITS), and the longer ones say their own time.
A_MINUTE = 60
KEPT_FIELDS, KEPT_LETTERS = 200, 100_000
NEVER_KEPT = ("csrfmiddlewaretoken", "password", "code")


def too_often(request: HttpRequest, *, seconds: int = A_MINUTE, why: str = "") -> HttpResponse:
    """Says when to come again, and keeps what was typed: one press sends it once more. `why` is safe to show."""
    minutes = -(-seconds // 60)
    context = {"why": why, "minutes": minutes, "hours": -(-minutes // 60), "kept": typed(request.POST)}
    answer = render(request, "429.html", context, status=429)
    answer["Retry-After"] = str(seconds)
    return answer


def typed(form: QueryDict) -> list[tuple[str, str]]:
    """What a form sent that may stand in a page again: no password, no code; nothing at all of what is very large."""
    kept = [
        (name, value)
        for name, values in form.lists()
        if not any(secret in name for secret in NEVER_KEPT)
        for value in values
    ]
    small = len(kept) <= KEPT_FIELDS and sum(len(value) for _name, value in kept) <= KEPT_LETTERS
    return kept if small else []

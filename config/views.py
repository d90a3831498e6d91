"""The front door, and the pages of those who are turned away."""

from collections.abc import Callable

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

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
        return render(request, f"{status}.html", {"exception": why}, status=status)

    return page

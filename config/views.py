"""The front door."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from groups.models import Creator


@login_not_required
def home(request: HttpRequest) -> HttpResponse:
    """Tells a stranger what this is; brings everybody else to where they work or read."""
    if not request.user.is_authenticated:
        return render(request, "home.html")
    return redirect("studio:start" if Creator.objects.run_by(request.user).exists() else "library:home")

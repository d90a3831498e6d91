"""What every page's frame shows, whoever rendered it."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from groups.models import Creator


def frame(request: HttpRequest) -> dict[str, Any]:
    """The creators this person runs (asked for only where the navigation is drawn), and whether mail stays here."""
    creators = Creator.objects.none()
    if request.user.is_authenticated:
        creators = Creator.objects.run_by(request.user).order_by("name")
    return {"run_creators": creators, "mailbox": settings.MAILBOX}

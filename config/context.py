"""What every page's frame shows, whoever rendered it."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from accounts.models import User
from groups.models import Creator


def frame(request: HttpRequest) -> dict[str, Any]:
    """The creators this person runs (asked for only where the navigation is drawn), whether they may start another,
    and whether mail stays here.
    """
    creators, may_start = Creator.objects.none(), False
    # A request can be refused before anybody asked whose it is; its page has this frame too.
    user = getattr(request, "user", None)
    if isinstance(user, User):
        creators = Creator.objects.run_by(user).order_by("name")
        may_start = settings.CREATORS != "invited" or user.is_staff
    return {"run_creators": creators, "may_start_creators": may_start, "mailbox": settings.MAILBOX}

"""Where every page of a creator begins: whose studio it is, and in which zone its times are told."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django_htmx.middleware import HtmxDetails

from accounts.models import User
from groups.models import Creator

P = ParamSpec("P")


class StudioRequest(HttpRequest):
    """A request as it arrives here: signed in (the middleware saw to it) and known to htmx or not."""

    user: User
    htmx: HtmxDetails


def of_creator(
    view: Callable[Concatenate[StudioRequest, Creator, P], HttpResponse],
) -> Callable[..., HttpResponse]:
    """The view gets the creator named in the path, if this person runs it; for anybody else there is no such page."""

    @wraps(view)
    def page(request: StudioRequest, slug: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        creator = get_object_or_404(Creator.objects.run_by(request.user), slug=slug)
        with timezone.override(creator.zone):
            return view(request, creator, *args, **kwargs)

    return page


def row_number(text: str) -> int:
    """A row as a form or an address names it; 0, which no row is, for what cannot be one."""
    # A longer number fits no column, and one of thousands of digits not even Python's int().
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def posted(request: HttpRequest) -> QueryDict | None:
    """What a form was sent with, be it nothing at all; None when it is only asked for."""
    return request.POST if request.method == "POST" else None

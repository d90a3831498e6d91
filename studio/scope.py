"""Where every page of a creator begins: whose studio it is, and in which zone its times are told."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST
from django_htmx.middleware import HtmxDetails

from accounts.models import User
from groups.models import Creator, Staff

P = ParamSpec("P")


class StudioRequest(HttpRequest):
    """A request as it arrives here: signed in (the middleware saw to it) and known to htmx or not."""

    user: User
    htmx: HtmxDetails
    # Whether this person may give and tell in the studio that the page belongs to (P2).
    may_send: bool


def of_creator(
    view: Callable[Concatenate[StudioRequest, Creator, P], HttpResponse],
) -> Callable[..., HttpResponse]:
    """The view gets the creator named in the path, if this person runs it; for anybody else there is no such page."""

    @wraps(view)
    def page(request: StudioRequest, slug: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        runs = Staff.objects.select_related("creator").filter(user=request.user)
        place = get_object_or_404(runs, creator__slug=slug)
        request.may_send, creator = place.may_send, place.creator
        with timezone.override(creator.zone):
            return view(request, creator, *args, **kwargs)

    return page


def for_senders(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The view sends, or stops, or takes back: for owners and managers. Others of the studio read why not."""

    @wraps(view)
    def guarded(request: StudioRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not request.may_send:
            raise PermissionDenied(
                _("Only an owner or a manager of this studio may send, stop a send, or take files back.")
            )
        return view(request, *args, **kwargs)

    return guarded


def post_only(back: str, *names: str) -> Callable[..., Callable[..., HttpResponse]]:
    """The view does something; whoever only opens its address (a reload, a sign-in that led there) is led to `back`.

    `back` is a page's name, `names` are those of the address's numbers that it takes.
    """

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        act_on_post = require_POST(view)

        @wraps(view)
        def act(request: StudioRequest, creator: Creator, *args: object, **kwargs: object) -> HttpResponse:
            if request.method in {"GET", "HEAD"}:
                return redirect(back, creator.slug, *(kwargs[name] for name in names))
            return act_on_post(request, creator, *args, **kwargs)

        return act

    return decorate


def row_number(text: str) -> int:
    """A row as a form or an address names it; 0, which no row is, for what cannot be one."""
    # A longer number fits no column, and one of thousands of digits not even Python's int().
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def posted(request: HttpRequest) -> QueryDict | None:
    """What a form was sent with, be it nothing at all; None when it is only asked for."""
    return request.POST if request.method == "POST" else None

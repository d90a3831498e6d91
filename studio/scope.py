"""Where every page of a creator begins: whose studio it is, and in which zone its times are told."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern
from django.utils import timezone
from django.views.decorators.http import require_POST
from django_htmx.middleware import HtmxDetails

from accounts.models import User
from groups.models import Creator, Staff
from groups.rights import Right
from groups.services.staff import WHY_NOT, NotYours

P = ParamSpec("P")
V = TypeVar("V", bound=Callable[..., HttpResponse])
M = TypeVar("M", bound=Model)


class StudioRequest(HttpRequest):
    """A request as it arrives here: signed in (the middleware saw to it) and known to htmx or not."""

    user: User
    htmx: HtmxDetails
    # What this person may do in the studio that the page belongs to, for the page to offer no more (P2).
    may_prepare: bool
    may_send: bool
    may_run: bool


Page = Callable[Concatenate[StudioRequest, Creator, P], HttpResponse]
SAFE_METHODS = ("GET", "HEAD")


def of_creator(
    right: Right, *, to_post: Right | None = None
) -> Callable[[Page[P]], Callable[..., HttpResponse]]:
    """The view gets the creator named in the path, if this person has `right` there; others of its staff read why not.

    For anybody else there is no such page. What only reads takes no other method than GET and HEAD, unless it says
    which right `to_post` asks for: a page can be looked at by more people than may change what it shows.
    """

    def decorate(view: Page[P]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def page(request: StudioRequest, slug: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            runs = Staff.objects.select_related("creator").filter(user=request.user)
            place = get_object_or_404(runs, creator__slug=slug)
            request.may_prepare, request.may_send = place.may(Right.PREPARE), place.may(Right.SEND)
            request.may_run, creator = place.may(Right.RUN), place.creator
            reads = request.method in SAFE_METHODS
            needed = right if reads else to_post or right
            if not reads and needed == Right.READ:
                return HttpResponseNotAllowed(SAFE_METHODS)
            if not place.may(needed):
                raise NotYours(WHY_NOT[needed])
            with timezone.override(creator.zone):
                return view(request, creator, *args, **kwargs)

        return with_right(page, right)

    return decorate


def with_right(view: V, right: Right | None) -> V:
    """The view, known to ask for `right`; None is said of the one page that is nobody's studio."""
    view.right = right  # type: ignore[attr-defined]
    return view


def checked(patterns: list[URLPattern]) -> list[URLPattern]:
    """The addresses of the studio. One whose view names no right stops the start: nothing opens by oversight."""
    for pattern in patterns:
        if not hasattr(pattern.callback, "right"):
            raise ImproperlyConfigured(f"The page {pattern.name} of the studio names no right.")
    return patterns


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


def to_change(rows: QuerySet[M], request: HttpRequest) -> QuerySet[M]:
    """`rows`, for the one that a form is over: locked from reading it to saving it, in the transaction around."""
    return rows.select_for_update(no_key=True, of=("self",)) if request.method == "POST" else rows


def posted(request: HttpRequest) -> QueryDict | None:
    """What a form was sent with, be it nothing at all; None when it is only asked for."""
    return request.POST if request.method == "POST" else None

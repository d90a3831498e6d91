"""The pages behind **Redeem here**. The link is a ticket, not a login: reading a page changes nothing."""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login_by_code import LoginCodeVerificationProcess
from allauth.core import ratelimit
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.addresses import masked
from accounts.models import User
from accounts.services import account_for
from distribution.models import Grant, Release
from distribution.services import HeldByAnother, SentToAnother, TakenBack, holds_release, redeem_grant
from distribution.standing import Place, standing_of, what_is_inside
from distribution.tickets import ForgedTicket, read_ticket
from library.models import Bundle, LibraryEntry
from library.serving import serve_cover

# Kept in the session from the press until the person has signed in or up; config's adapter brings them back here.
PRESSED = "redeem"


def public_page(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For everybody with the link, and for nobody's cache, index or Referer.

    `no-referrer` would be shorter, but then browsers send `Origin: null` with our own form and Django refuses it.
    """

    @wraps(view)
    def quiet(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response["Referrer-Policy"] = "strict-origin"
        response["X-Robots-Tag"] = "noindex, nofollow"
        return response

    return login_not_required(never_cache(quiet))


@public_page
@require_http_methods(["GET", "HEAD", "POST"])
def redeem(request: HttpRequest, ticket: str) -> HttpResponse:
    """What the ticket gives and whether it is there yet; only the press of the button redeems it."""
    grant = _granted(ticket)
    if grant is None:
        return render(request, "distribution/redeem_unknown.html", status=404)
    user = request.user if isinstance(request.user, User) else None
    if request.method != "POST" or standing_of(grant, user).taken_back:
        return _show(request, grant, ticket, user)
    if user and "with_mailed_address" not in request.POST:
        try:
            # Taken back a moment ago: who holds nothing is led from there to how things stand.
            with suppress(TakenBack):
                redeem_grant(grant, user=user, now=timezone.now())
        except (SentToAnother, HeldByAnother):
            return _show(request, grant, ticket, user, status=409)
        return redirect("redeemed", ticket)
    if not standing_of(grant, None).mailed_opens:
        return _show(request, grant, ticket, user, status=409)
    return _send_code(request, grant, ticket)


@public_page
@require_safe
def redeemed(request: HttpRequest, ticket: str) -> HttpResponse:
    """The quiet moment after: it is theirs. Whoever does not hold it is told how things stand."""
    grant = _granted(ticket)
    if grant is None or not isinstance(request.user, User) or not holds_release(request.user, grant.release):
        return redirect("redeem", ticket)
    context = {
        "release": grant.release,
        "bundles": what_is_inside(grant.release),
        "ticket": ticket,
        "shelf": _shelf(request.user, grant.release),
    }
    return render(request, "distribution/redeemed.html", context)


@public_page
@require_safe
def cover(request: HttpRequest, ticket: str, bundle_id: int) -> HttpResponseBase:
    """The picture of a bundle that the ticket gives: covers have no public path of their own."""
    grant = _granted(ticket)
    if grant is None or grant.revoked_at or grant.release.recalled_at:
        raise Http404
    given = Bundle.objects.exclude(cover="").filter(release_items__release=grant.release)
    return serve_cover(get_object_or_404(given, pk=bundle_id))


def _granted(ticket: str) -> Grant | None:
    try:
        grant_id, generation = read_ticket(ticket)
    except ForgedTicket:
        return None
    grants = Grant.objects.select_related("release__creator", "contact__account", "redeemed_by")
    return grants.filter(pk=grant_id, generation=generation).first()


def _show(
    request: HttpRequest, grant: Grant, ticket: str, user: User | None, status: int = 200
) -> HttpResponse:
    standing = standing_of(grant, user)
    if standing.taken_back:
        context = {"grant": grant, "release": grant.release, "standing": standing}
        return render(request, "distribution/taken_back.html", context, status=410)
    context = {
        "release": grant.release,
        "bundles": what_is_inside(grant.release),
        "groups": [row.group for row in grant.release.audience_rows.select_related("group__parent")],
        "standing": standing,
        "ticket": ticket,
        "shelf": _shelf(user, grant.release) if user and standing.place == Place.HERE else "",
    }
    return render(request, "distribution/redeem.html", context, status=status)


def _shelf(user: User, release: Release) -> str:
    """Where in `user`'s library it stands: the bundle's own page if there is one bundle."""
    entries = LibraryEntry.objects.filter(user=user, bundle__release_items__release=release)[:2]
    return reverse("library:entry", args=[entries[0].pk]) if len(entries) == 1 else reverse("library:home")


def _send_code(request: HttpRequest, grant: Grant, ticket: str) -> HttpResponse:
    """A code goes to the mailed address; entering it opens (or makes) its account, and settles what waited."""
    address = grant.contact.address_key
    if not ratelimit.consume(request, action="request_login_code", key=address):
        too_many: HttpResponse = ratelimit.respond_429(request)
        return too_many
    if request.user.is_authenticated:
        get_adapter().logout(request)
    request.session[PRESSED] = {"ticket": ticket, "address": address, "mailed_to": masked(address)}
    LoginCodeVerificationProcess.initiate(request=request, user=account_for(address), email=address)
    return redirect("account_confirm_login_code")

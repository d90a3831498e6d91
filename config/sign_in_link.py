"""A link that signs one person in, once: for whoever holds the server's terminal."""

from datetime import datetime, timedelta

from allauth.account.internal.flows.login import record_authentication
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.models import User
from config.sign_in import say_sign_in
from groups.models import Creator

SALT = "config.sign_in_link"
GOOD_FOR = timedelta(hours=1)
# Written by `run` while it runs: another terminal does not know which port it was given.
RUNNING = settings.VAR_DIR / "running"


class LinkSpent(Exception):
    """The link was used, is too old, or was never made here."""

    def __init__(self) -> None:
        super().__init__(_("This link was used already, or it is more than an hour old. Ask for a new one."))


def make_link(user: User) -> str:
    """An address under SITE_URL by which `user` signs in within the hour, once. Twice: either works, then neither."""
    token = signing.dumps([user.pk, user.last_login and user.last_login.isoformat()], salt=SALT)
    return f"{running_site()}{reverse('sign_in_by_link', args=[token])}"


def running_site() -> str:
    """Where this site answers: as `make run` wrote it down while it runs on a port of its own, or else SITE_URL."""
    try:
        return RUNNING.read_text().strip() if settings.MAILBOX else settings.SITE_URL
    except OSError:
        return settings.SITE_URL


def read_link(token: str) -> tuple[User, datetime | None]:
    """Whom a good link is for, and when they had signed in last. Raises LinkSpent."""
    try:
        key, seen = signing.loads(token, salt=SALT, max_age=GOOD_FOR)
        last_login = datetime.fromisoformat(seen) if seen else None
        # None is a value here: never signed in.
        user = User.objects.get(pk=key, is_active=True, last_login=last_login)  # type: ignore[optional-lookup]
        return user, last_login
    except (signing.BadSignature, User.DoesNotExist) as error:
        raise LinkSpent from error


def use_link(token: str, *, now: datetime) -> User:
    """The link's person, whose sign-in is noted. Twice, or two at once: the second gets LinkSpent."""
    user, seen = read_link(token)
    # The row count decides: whoever writes the new time first has used the link. None is never signed in.
    unused = User.objects.filter(pk=user.pk, last_login=seen)  # type: ignore[optional-lookup]
    if not unused.update(last_login=now):
        raise LinkSpent
    return user


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_by_link(request: HttpRequest, token: str) -> HttpResponse:
    """GET only asks: what fetches links for a preview must not spend one."""
    try:
        if request.method != "POST":
            return render(request, "config/sign_in_by_link.html", {"person": read_link(token)[0]})
        user = use_link(token, now=timezone.now())
    except LinkSpent as spent:
        return render(request, "config/sign_in_by_link.html", {"refusal": str(spent)}, status=410)
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    record_authentication(request, user, method="link")
    say_sign_in(request, user, "signed in by a link")
    if Creator.objects.run_by(user).exists():
        return redirect("/studio/")
    return redirect("admin:index" if user.is_staff else settings.LOGIN_REDIRECT_URL)

"""*Is it you?* Whoever changes what an account hangs on shows once more that they are who signed in.

A session alone must not be enough to take an account: the one that a browser was left open with, or that was copied.
A sign-in of the last minutes counts; otherwise a password, a second factor, or a code to the main address. Allauth asks
for the first two only, and nothing of whoever signs in by codes.
"""

import time
from typing import Any, TypedDict, cast

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import get_authentication_records, record_authentication
from allauth.account.internal.flows.reauthentication import resume_request
from allauth.account.models import EmailAddress
from allauth.account.utils import get_next_redirect_url
from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa.models import Authenticator
from django import forms
from django.contrib.auth import update_session_auth_hash
from django.db.models import F, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.addresses import masked
from accounts.models import User
from config.sign_in import may_guess, say_sign_in

ASKED = "again"
CODE_SECONDS = 600
SECOND_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


class Asked(TypedDict):
    code: str
    at: float


def has_second_factor(user: User) -> bool:
    return bool(Authenticator.objects.filter(user=user, type__in=SECOND_FACTORS).exists())


def has_shown_it(request: HttpRequest, user: User) -> bool:
    """Whether this browser showed within the last minutes that it is `user`: by the second factor, if there is one."""
    shown = get_authentication_records(request, user)
    factors = Authenticator.objects.filter(user=user, type__in=SECOND_FACTORS)
    if first := factors.aggregate(Min("created_at"))["created_at__min"]:
        # A link from the server's own terminal is how somebody who lost their factor comes back. And what was shown
        # before there was a factor was all there was to show: whoever adds one goes on to its recovery codes.
        shown = [one for one in shown if one["method"] in {"mfa", "link"} or one["at"] < first.timestamp()]
    return bool(shown) and time.time() - shown[-1]["at"] < app_settings.REAUTHENTICATION_TIMEOUT


def end_other_sessions(request: HttpRequest, user: User) -> None:
    """Every browser but this one is signed out. Twice: the same."""
    User.objects.filter(pk=user.pk).update(session_epoch=F("session_epoch") + 1)
    if request.user == user:
        mine = request.user
        mine.refresh_from_db(fields=["session_epoch"])
        update_session_auth_hash(request, mine)


class AgainForm(forms.Form):
    code = forms.CharField(
        label=_("Code"),
        max_length=12,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "one-time-code"}),
    )

    def __init__(self, *args: Any, expected: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        if not may_guess(self.expected):
            raise get_adapter().validation_error("too_many_login_attempts")
        if not compare_user_code(actual=code, expected=self.expected):
            raise get_adapter().validation_error("incorrect_code")
        return code


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def again(request: HttpRequest) -> HttpResponse:
    """GET sends nothing; a press sends a code to the main address, and the code leads on to what was asked for."""
    user = cast(User, request.user)
    address = EmailAddress.objects.get_primary_email(user)
    if has_second_factor(user):
        return redirect(get_adapter().get_reauthentication_methods(user)[0]["url"])
    asked: Asked | None = request.session.get(ASKED)
    if asked and time.time() - asked["at"] > CODE_SECONDS:
        asked = None
    form = AgainForm()
    if request.method == "POST" and "code" not in request.POST and address:
        asked = _send_code(request, address)
    elif request.method == "POST" and asked:
        form = AgainForm(request.POST, expected=asked["code"])
        if form.is_valid():
            del request.session[ASKED]
            record_authentication(request, user, method="code", email=address, reauthenticated=True)
            say_sign_in(request, user, "showed who they are by a code")
            return resume_request(request) or redirect("account_email")
        say_sign_in(request, user, "typed a wrong code")
    context = {
        "form": form,
        "asked": asked,
        "address": masked(address or ""),
        "next": get_next_redirect_url(request) or "",
    }
    return render(request, "account/again.html", context)


def _send_code(request: HttpRequest, address: str) -> Asked:
    adapter = get_adapter()
    asked: Asked = {"code": adapter.generate_login_code(), "at": time.time()}
    adapter.send_mail("account/email/again_code", address, {"request": request, "code": asked["code"]})
    request.session[ASKED] = asked
    return asked

"""The gate, for the installation's people: how sending stands, and the way out when it is locked."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.admin import ReadOnlyAdmin
from accounts.models import User
from messaging import gate
from messaging.models import Gate, Message
from messaging.services import NotLocked, doubts, unlock_sending
from messaging.services.unlock import outlook_of
from messaging.standing import lines

WAYS: dict[str, dict[str, bool]] = {
    "doubt": {},
    "nothing-was-sent": {"nothing_was_sent": True},
    "as-new": {"as_new": True},
}


@admin.register(Gate)
class GateAdmin(ReadOnlyAdmin):
    """One page instead of a list of one row."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not request.user.is_superuser:
            raise PermissionDenied
        if request.method == "POST":
            return self._unlock(request)
        now = timezone.now()
        context = {
            **self.admin_site.each_context(request),
            "title": _("Sending"),
            "opts": self.opts,
            "lines": list(lines(now)),
            "ways": self._ways() if gate.needs_unlocking() else [],
            "stalled": Message.objects.filter(stalled_at__isnull=False).count(),
        }
        return TemplateResponse(request, "messaging/admin_gate.html", context)

    def _ways(self) -> list[dict[str, object]]:
        found = doubts(timezone.now())
        names = {
            "doubt": _("The database was restored or moved: what may have been sent since is not sent again"),
            "nothing-was-sent": _(
                "No mail has left since the day the database is of: all goes on where it was"
            ),
            "as-new": _("This is a copy whose original lives on: all that is under way is cancelled here"),
        }
        return [
            {"way": way, "name": names[way], "lines": outlook_of(found, **options)}
            for way, options in WAYS.items()
        ]

    def _unlock(self, request: HttpRequest) -> HttpResponse:
        assert isinstance(request.user, User)  # noqa: S101 – the admin is for signed-in people
        options = WAYS.get(request.POST.get("way", ""))
        if options is None or request.POST.get("sure") != "yes":
            self.message_user(
                request, _("Choose what applies, and say that you are sure."), level=messages.ERROR
            )
            return HttpResponseRedirect(request.path)
        try:
            unlock_sending(by=request.user, now=timezone.now(), **options)
            self.message_user(request, _("Sending is unlocked. What goes on begins within seconds."))
        except NotLocked as refused:
            self.message_user(request, str(refused), level=messages.WARNING)
        return HttpResponseRedirect(request.path)

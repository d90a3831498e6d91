from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.models import Group as PermissionGroup
from django.urls import include, path
from django.utils.translation import gettext_lazy as _

from config import again, health, mailbox, metrics, sign_in_link, views

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.site_header = admin.site.site_title = _("Largesse administration")
# Addresses stand with their account, second factors are nobody else's, and this house has no permission groups.
admin.site.unregister([PermissionGroup, EmailAddress, Authenticator])

handler400, handler403, handler404 = map(views.refusal_page, (400, 403, 404))
# Called by allauth.
handler429 = views.too_often

urlpatterns = [
    path("", views.home, name="home"),
    path("library/", include("library.urls")),
    path("studio/", include("studio.urls")),
    path("accounts/again/", again.again, name="again"),
    path("accounts/", include("allauth.urls")),
    path("sign-in/<str:token>/", sign_in_link.sign_in_by_link, name="sign_in_by_link"),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
    path("mailbox/", mailbox.mailbox, name="mailbox"),
    path("mailbox/<slug:name>/", mailbox.mailbox_mail, name="mailbox_mail"),
    path("mailbox/<slug:name>/html/", mailbox.mailbox_html, name="mailbox_html"),
    path("mailbox/<slug:name>/raw/", mailbox.mailbox_raw, name="mailbox_raw"),
    # Mailed links stand at the top: /redeem/…, /unsubscribe/…, /preferences/….
    path("", include("distribution.urls")),
    path("", include("messaging.urls")),
]

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.auth.models import Group as PermissionGroup
from django.urls import include, path
from django.utils.translation import gettext_lazy as _

from config import views

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.site_header = admin.site.site_title = _("Largesse administration")
# Addresses stand with their account, and this house has no permission groups.
admin.site.unregister([PermissionGroup, EmailAddress])

urlpatterns = [
    path("", views.home, name="home"),
    path("library/", include("library.urls")),
    path("studio/", include("studio.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    # Mailed links stand at the top: /redeem/…, /unsubscribe/…, /preferences/….
    path("", include("distribution.urls")),
    path("", include("messaging.urls")),
]

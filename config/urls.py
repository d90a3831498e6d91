from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("library/", include("library.urls")),
    path("studio/", include("studio.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    # Mailed links stand at the top: /redeem/…, /unsubscribe/…, /preferences/….
    path("", include("distribution.urls")),
    path("", include("messaging.urls")),
]

from django.urls import path

from messaging import views, webhooks

app_name = "messaging"
urlpatterns = [
    path("mail/events/<slug:provider>/", webhooks.provider_events, name="provider_events"),
    path("unsubscribe/<str:token>/", views.unsubscribe, name="unsubscribe"),
    path("preferences/<str:token>/", views.preferences, name="preferences"),
    path("why/<str:token>/", views.why, name="why"),
    path("report/<str:token>/", views.report, name="report"),
]

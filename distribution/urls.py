from django.urls import path

from distribution import views

urlpatterns = [
    path("redeem/<str:ticket>/", views.redeem, name="redeem"),
    path("redeem/<str:ticket>/done/", views.redeemed, name="redeemed"),
    path("redeem/<str:ticket>/cover/<int:bundle_id>/", views.cover, name="redeem-cover"),
]

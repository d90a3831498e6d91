from django.urls import path

from library import views

app_name = "library"
urlpatterns = [
    path("", views.home, name="home"),
    path("<int:pk>/", views.entry, name="entry"),
    path("<int:pk>/all.zip", views.download_everything, name="download_everything"),
    path("files/<int:pk>/", views.download_file, name="download_file"),
    path("releases/<int:pk>/all.zip", views.download_release, name="download_release"),
    path("covers/<int:pk>/", views.cover, name="cover"),
]

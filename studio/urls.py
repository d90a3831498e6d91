from django.urls import path

from studio import uploads
from studio.views import groups, home, imports, members

app_name = "studio"
urlpatterns = [
    path("", home.start, name="start"),
    path("<slug:slug>/", home.home, name="home"),
    path("<slug:slug>/groups/", groups.groups, name="groups"),
    path("<slug:slug>/groups/new/", groups.create_group, name="create_group"),
    path("<slug:slug>/groups/<int:pk>/", groups.group, name="group"),
    path("<slug:slug>/groups/<int:pk>/rename/", groups.rename_group, name="rename_group"),
    path("<slug:slug>/groups/<int:pk>/archive/", groups.archive_group, name="archive_group"),
    path("<slug:slug>/groups/<int:pk>/add/", members.add_member, name="add_member"),
    path("<slug:slug>/groups/<int:pk>/import/", imports.open_import, name="open_import"),
    path("<slug:slug>/groups/<int:pk>/paste/", imports.paste_list, name="paste_list"),
    path("<slug:slug>/groups/members/<int:pk>/end/", members.end_membership, name="end_membership"),
    path("<slug:slug>/groups/members/<int:pk>/again/", members.start_again, name="start_again"),
    path("<slug:slug>/imports/<int:pk>/", imports.import_run, name="import"),
    path("<slug:slug>/imports/<int:pk>/columns/", imports.choose_columns, name="choose_columns"),
    path("<slug:slug>/imports/<int:pk>/mapping/", imports.choose_mapping, name="choose_mapping"),
    path("<slug:slug>/imports/<int:pk>/apply/", imports.apply_import, name="apply_import"),
    *uploads.urlpatterns,
]

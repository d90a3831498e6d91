"""The house keeps its plan: keys point downwards, and nothing reaches past its room."""

from django.apps import apps

ROOMS = ["rows", "accounts", "groups", "library", "distribution", "messaging", "studio", "config"]


def test_foreign_keys_point_only_downwards() -> None:
    upward = [
        f"{model.__name__}.{field.name}"
        for room in ROOMS
        for model in apps.get_app_config(room).get_models()
        for field in model._meta.get_fields()
        if field.is_relation and not field.auto_created and field.related_model
        for target in [field.related_model._meta.app_label]
        if target in ROOMS and ROOMS.index(target) > ROOMS.index(room)
    ]
    assert upward == []


def test_the_studio_owns_no_table() -> None:
    assert list(apps.get_app_config("studio").get_models()) == []


def test_every_model_says_what_one_row_is() -> None:
    silent = [
        model.__name__
        for room in ROOMS
        for model in apps.get_app_config(room).get_models()
        if not model.__doc__ or model.__doc__.startswith(f"{model.__name__}(")
    ]
    assert silent == []

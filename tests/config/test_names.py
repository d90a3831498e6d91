"""What the admin calls the rows of each table."""

from django.apps import apps

IRREGULAR = {"staff": "staff"}


def test_every_table_has_a_plural_that_is_english() -> None:
    for model in apps.get_models():
        one, many = str(model._meta.verbose_name), str(model._meta.verbose_name_plural)
        regular = f"{one[:-1]}ies" if one.endswith("y") else f"{one}es" if one.endswith("s") else f"{one}s"
        assert many == IRREGULAR.get(one, regular), model

"""Many values as one parameter find what an IN list would."""

import pytest
from django.db import connection

from groups.models import Contact
from rows.sets import among
from tests import factories

pytestmark = pytest.mark.django_db


def found(column: str, values: list[int | str]) -> set[int]:
    return set(Contact.objects.filter(among(column, values)).values_list("pk", flat=True))


def test_they_are_found_by_text_and_by_number_and_in_one_parameter() -> None:
    odd = ["plain@example.org", "o'neill@example.org", '"{q},\\"@example.org', "zoë@example.org"]
    people = [factories.ContactFactory.create(address_key=address) for address in odd]
    ids = {person.pk for person in people}
    other = factories.ContactFactory.create().pk
    assert found("address_key", [*odd, "nobody@example.org"]) == ids
    assert found("pk", [*ids, 0]) == ids
    assert found("creator", [people[0].creator_id]) == {people[0].pk}
    assert found("pk", []) == found("address_key", []) == set()
    assert Contact.objects.filter(~among("pk", sorted(ids))).get().pk == other
    sql, params = Contact.objects.filter(among("pk", range(1000))).query.sql_with_params()
    assert len(params) == 1
    assert ("ANY" in sql) == (connection.vendor == "postgresql")

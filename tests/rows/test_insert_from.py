import pytest
from django.db.models import DateTimeField, Value
from django.utils import timezone

from groups.models import Contact, Group
from library.models import LibraryEntry
from rows.sets import insert_from
from tests.factories import BundleFactory, ContactFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_a_set_is_inserted_by_one_statement_and_the_second_time_nothing_is_new(
    hobbyist: Group, django_assert_num_queries: object
) -> None:
    bundle = BundleFactory.create(creator=hobbyist.creator)
    for _ in range(3):
        ContactFactory.create(creator=hobbyist.creator, account=UserFactory.create())
    source = (
        Contact.objects.filter(account__isnull=False)
        .annotate(bundle=Value(bundle.pk), at=Value(timezone.now(), output_field=DateTimeField()))
        .values_list("account_id", "bundle", "at")
    )
    with django_assert_num_queries(1):  # type: ignore[operator]
        assert insert_from(source, LibraryEntry, ["user", "bundle", "added_at"]) == 3
    assert insert_from(source, LibraryEntry, ["user", "bundle", "added_at"]) == 0
    assert LibraryEntry.objects.count() == 3


def test_a_set_that_cannot_have_anything_in_it_inserts_nothing() -> None:
    nobody = Contact.objects.filter(pk__in=[]).values_list("account_id", "pk", "created_at")
    assert insert_from(nobody, LibraryEntry, ["user", "bundle", "added_at"]) == 0

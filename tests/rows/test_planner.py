"""What may be walked is put right again, whatever happens inside."""

import pytest
from django.db import connection, transaction

from rows.planner import by_keys

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]


def walks() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('enable_seqscan')")
        return str(cursor.fetchone()[0])


def test_tables_are_walked_again_afterwards_also_inside_one_another_and_after_an_error() -> None:
    with by_keys():
        assert walks() == "off"
        with by_keys():
            assert walks() == "off"
        assert walks() == "off"
    assert walks() == "on"

    def fail() -> None:
        with transaction.atomic(), by_keys():
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert walks() == "on"


def test_a_query_is_answered_at_once_and_by_one_process() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('jit'), current_setting('max_parallel_workers_per_gather')")
        assert cursor.fetchone() == ("off", "0")

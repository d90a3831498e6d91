"""A dry run that would change nothing says truly why."""

import pytest
from django.test import Client

from groups.models import Group
from tests.studio.conftest import url
from tests.studio.test_imports import PATREON, as_proposed, check, open_file

HEAD, *PEOPLE = PATREON.splitlines(keepends=True)
EVERYBODY = "Everybody in this file is in the group already"


@pytest.mark.parametrize("rows", [[PEOPLE[3]], [PEOPLE[0].replace("Hobbyist", "A tier nobody mapped")]])
def test_rows_that_cannot_be_used_are_not_called_members(
    studio: Client, patrons: Group, rows: list[str]
) -> None:
    run = open_file(studio, patrons, HEAD + "".join(rows))
    studio.post(url("choose_mapping", run.pk), as_proposed(run))
    check(run)
    page = studio.get(url("import", run.pk)).text
    assert EVERYBODY not in page
    assert "Nobody joins, moves or leaves by this file" in page

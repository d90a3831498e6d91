"""Room in each page of deliveries for their own changes.

A delivery is charged, offered and recorded: three new versions of its row. On a full page each goes elsewhere and
into every index; with room they stay where they are, and the table ends up the smaller one.
"""

from typing import Any

from django.db import migrations


def leave_room(_apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE messaging_delivery SET (fillfactor = 50)")


class Migration(migrations.Migration):
    dependencies = [("messaging", "0002_sending_grows")]

    operations = [migrations.RunPython(leave_room, migrations.RunPython.noop)]

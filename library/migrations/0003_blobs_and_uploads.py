"""A blob knows its CRC-32 and may be on its way out; an upload has a row before its storage has heard of it."""

import zlib

from django.db import migrations, models

from library.storage import storage


def read_crc32(apps, schema_editor):
    """Every blob that is stored is read once."""
    for blob in apps.get_model("library", "Blob").objects.only("storage_key").iterator(chunk_size=200):
        crc32 = 0
        for chunk in storage().open(blob.storage_key):
            crc32 = zlib.crc32(chunk, crc32)
        blob.crc32 = crc32
        blob.save(update_fields=["crc32"])


class Migration(migrations.Migration):
    dependencies = [("library", "0002_work_that_goes_wrong")]

    operations = [
        migrations.AddField("blob", "dropped_at", models.DateTimeField(null=True, blank=True)),
        migrations.RemoveConstraint("blob", "blob_once_a_creator"),
        migrations.AddConstraint(
            "blob",
            models.UniqueConstraint(
                fields=("creator", "sha256"),
                condition=models.Q(("dropped_at", None)),
                name="blob_once_a_creator",
            ),
        ),
        migrations.AddField("blob", "crc32", models.PositiveBigIntegerField(null=True)),
        migrations.RunPython(read_crc32, migrations.RunPython.noop, elidable=True),
        migrations.AlterField("upload", "storage_upload_id", models.CharField(max_length=1100, blank=True)),
    ]

"""Apart from what filled it: PostgreSQL alters no table in the transaction that has just written to it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0003_blobs_and_uploads")]

    operations = [migrations.AlterField("blob", "crc32", models.PositiveBigIntegerField())]

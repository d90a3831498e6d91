"""Where big files live: `storage()` is the one place the settings chose."""

from functools import cache
from pathlib import Path

from django.conf import settings

from library.storage.base import (
    Part,
    PartCutShort,
    PartDamaged,
    PartOvertaken,
    PartsDiffer,
    Readable,
    Storage,
    StorageDown,
    UploadGone,
)
from library.storage.disk import DiskStorage
from library.storage.s3 import S3Storage

__all__ = [
    "DiskStorage",
    "Part",
    "PartCutShort",
    "PartDamaged",
    "PartOvertaken",
    "PartsDiffer",
    "Readable",
    "S3Storage",
    "Storage",
    "StorageDown",
    "UploadGone",
    "storage",
]


def storage() -> Storage:
    """The bucket if one is configured, otherwise the media folder on this disk."""
    if settings.S3_BUCKET:
        return _bucket(
            settings.S3_BUCKET,
            settings.S3_ENDPOINT,
            settings.S3_REGION,
            settings.S3_ACCESS_KEY,
            settings.S3_SECRET_KEY,
        )
    return DiskStorage(Path(settings.MEDIA_ROOT))


@cache
def _bucket(bucket: str, endpoint: str, region: str, access_key: str, secret_key: str) -> S3Storage:
    return S3Storage(bucket, endpoint=endpoint, region=region, access_key=access_key, secret_key=secret_key)

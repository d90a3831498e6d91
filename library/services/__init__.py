"""What the other rooms call. Each says in its docstring what holds afterwards and what twice means."""

from library.services.covers import PictureRefused, set_cover
from library.services.downloads import NotHeld, open_download, open_everything, open_release
from library.services.holders import count_holders, holders_of
from library.services.holdings import add_holdings, end_holdings, holds_all
from library.services.quotas import QuotaReached
from library.services.uploads import (
    PartsMissing,
    SizeRefused,
    UploadOver,
    WrongPart,
    cancel_upload,
    complete_upload,
    open_upload,
    put_part,
    verify_upload,
)
from library.services.versions import (
    BundleArchived,
    FileMoved,
    NameTaken,
    NothingToSeal,
    StillUploading,
    archive_bundle,
    latest_version,
    remove_file,
    rename_file,
    seal_version,
)

__all__ = [
    "BundleArchived",
    "FileMoved",
    "NameTaken",
    "NotHeld",
    "NothingToSeal",
    "PartsMissing",
    "PictureRefused",
    "QuotaReached",
    "SizeRefused",
    "StillUploading",
    "UploadOver",
    "WrongPart",
    "add_holdings",
    "archive_bundle",
    "cancel_upload",
    "complete_upload",
    "count_holders",
    "end_holdings",
    "holders_of",
    "holds_all",
    "latest_version",
    "open_download",
    "open_everything",
    "open_release",
    "open_upload",
    "put_part",
    "remove_file",
    "rename_file",
    "seal_version",
    "set_cover",
    "verify_upload",
]

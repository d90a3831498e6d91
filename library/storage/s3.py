"""Big files in an S3 bucket, at Amazon or at any store that speaks its language."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from library.headers import content_disposition
from library.storage.base import (
    Part,
    PartReader,
    PartsDiffer,
    Readable,
    Storage,
    StorageDown,
    Stretch,
    UploadGone,
)

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

LINK_SECONDS = 300


@contextmanager
def _plain_errors() -> Iterator[None]:
    """S3's error codes become this house's facts."""
    try:
        yield
    except ClientError as error:
        match error.response["Error"]["Code"]:
            case "NoSuchUpload":
                raise UploadGone from error
            case "NoSuchKey" | "404":
                raise FileNotFoundError(str(error)) from error
            case "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall" | "MalformedXML":
                raise PartsDiffer from error
        raise StorageDown from error
    except (BotoCoreError, HTTPClientError) as error:
        raise StorageDown from error


class _Body:
    """An answer's body, which may break off like any call."""

    def __init__(self, body: "StreamingBody") -> None:
        self.body = body

    def read(self, size: int, /) -> bytes:
        with _plain_errors():
            return self.body.read(size)

    def close(self) -> None:
        self.body.close()


class S3Storage(Storage):
    """One object a key, under `prefix`. Credentials left empty come from boto3's own chain."""

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str = "",
        region: str = "",
        access_key: str = "",
        secret_key: str = "",
        prefix: str = "blobs/",
    ) -> None:
        self.bucket, self.prefix = bucket, prefix
        # `when_required`: the checksum headers boto3 adds by itself are refused by MinIO, R2 and B2.
        # A client may be shared by threads; a session may not.
        self.client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=region or None,
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            config=Config(
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if endpoint else "auto"},
                retries={"mode": "standard", "max_attempts": 4},
                connect_timeout=10,
                read_timeout=60,
            ),
        )

    def create(self, key: str, *, part_size: int) -> str:
        with _plain_errors():
            answer = self.client.create_multipart_upload(Bucket=self.bucket, Key=self.prefix + key)
        return answer["UploadId"]

    def put_part(
        self, key: str, upload_id: str, number: int, stream: Readable, size: int, *, sha256: str = ""
    ) -> str:
        # Signing and retrying both read the part again. On disk, not in memory: 64 threads do this at once.
        with tempfile.TemporaryFile() as spool:
            for chunk in PartReader(stream, number, size, sha256):
                spool.write(chunk)
            spool.seek(0)
            with _plain_errors():
                answer = self.client.upload_part(
                    Bucket=self.bucket,
                    Key=self.prefix + key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=spool,
                    ContentLength=size,
                )
        return answer["ETag"].strip('"')

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        pages = self.client.get_paginator("list_parts").paginate(
            Bucket=self.bucket, Key=self.prefix + key, UploadId=upload_id
        )
        with _plain_errors():
            return [
                Part(part["PartNumber"], part["Size"], part["ETag"].strip('"'))
                for page in pages
                for part in page.get("Parts", [])
            ]

    def complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        chosen: list[CompletedPartTypeDef] = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
            for part in sorted(parts, key=lambda part: part.number)
        ]
        try:
            with _plain_errors():
                self.client.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=self.prefix + key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": chosen},
                )
        except UploadGone:
            # Completed before, by a worker that was killed before it could say so?
            try:
                self.size(key)
            except FileNotFoundError as never_completed:
                raise UploadGone from never_completed

    def abort(self, key: str, upload_id: str) -> None:
        if not upload_id:
            for begun in self._begun(key):
                self.abort(key, begun)
            return
        try:
            with _plain_errors():
                self.client.abort_multipart_upload(
                    Bucket=self.bucket, Key=self.prefix + key, UploadId=upload_id
                )
        except UploadGone:
            return

    def _begun(self, key: str) -> list[str]:
        with _plain_errors():
            answer = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix + key)
        return [begun["UploadId"] for begun in answer.get("Uploads", [])]

    def open(self, key: str, start: int = 0, end: int | None = None) -> Stretch:
        if end is not None and end <= start:
            return Stretch(io.BytesIO(), None)
        with _plain_errors():
            answer = self.client.get_object(
                Bucket=self.bucket,
                Key=self.prefix + key,
                Range=f"bytes={start}-{'' if end is None else end - 1}",
            )

        return Stretch(_Body(answer["Body"]), None)

    def size(self, key: str) -> int:
        with _plain_errors():
            return self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)["ContentLength"]

    def delete(self, key: str) -> None:
        with _plain_errors():
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def presigned_download(self, key: str, *, filename: str, content_type: str) -> str | None:
        return self.client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket,
                "Key": self.prefix + key,
                "ResponseContentDisposition": content_disposition(filename),
                "ResponseContentType": content_type,
            },
            ExpiresIn=LINK_SECONDS,
        )

import io
from collections.abc import Callable
from datetime import datetime

import pytest

from accounts.models import User
from groups.models import Creator
from library import services
from library.models import Bundle, Upload
from tests import factories


@pytest.fixture
def bundle(creator: Creator) -> Bundle:
    """A bundle of the creator's with nothing in it yet."""
    bundle: Bundle = factories.BundleFactory.create(
        creator=creator, title="Dragon", files=0, files__open=True
    )
    return bundle


@pytest.fixture
def send(owner: User, now: datetime) -> Callable[..., Upload]:
    """The owner's upload of `content`, complete and waiting for its check."""

    def send(bundle: Bundle, path: str, content: bytes) -> Upload:
        by = factories.owner_of(bundle.creator)
        upload = services.open_upload(bundle, path, len(content), by=by, now=now)
        for number in range(1, upload.part_count + 1):
            size = upload.size_of_part(number)
            part = content[(number - 1) * upload.part_size :][:size]
            services.put_part(upload, number, io.BytesIO(part), size, now=now)
        services.complete_upload(upload, now=now)
        upload.refresh_from_db()
        return upload

    return send


@pytest.fixture
def place(send: Callable[..., Upload], now: datetime) -> Callable[..., Upload]:
    """The same, checked: the file is in the bundle, or the reason why not."""

    def place(bundle: Bundle, path: str, content: bytes) -> Upload:
        upload = send(bundle, path, content)
        services.verify_upload(upload.pk, now=now)
        upload.refresh_from_db()
        return upload

    return place

"""Rows for tests. Each is what the services would have made."""

import hashlib
import io
import zlib
from datetime import UTC, datetime
from typing import Any

import factory
from allauth.account.models import EmailAddress
from factory.django import DjangoModelFactory

from accounts.models import User
from distribution.models import Release, ReleaseAudience, ReleaseItem
from groups.models import Contact, Creator, Group, Membership, Staff
from library.models import Blob, Bundle, BundleVersion, File
from library.storage import Part, storage

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@example.org")
    name = factory.Sequence(lambda n: f"Person {n}")
    password = "!"

    @factory.post_generation
    def verified(self, create: bool, extracted: bool | None, **kwargs: Any) -> None:
        if extracted is not False:
            EmailAddress.objects.create(user=self, email=self.email, verified=True, primary=True)  # type: ignore[attr-defined]


class CreatorFactory(DjangoModelFactory[Creator]):
    class Meta:
        model = Creator
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"Creator {n}")
    slug = factory.Sequence(lambda n: f"creator-{n}")
    time_zone = "Europe/Berlin"
    reply_to = factory.LazyAttribute(lambda c: f"hello@{c.slug}.example")
    postal_address = "1 Mill Lane, 12345 Town, Germany"
    created_at = LONG_AGO
    approved_at = LONG_AGO

    @factory.post_generation
    def owner(self, create: bool, extracted: User | None, **kwargs: Any) -> None:
        if extracted:
            Staff.objects.create(creator=self, user=extracted)


def owner_of(creator: Creator) -> User | None:
    """Who acts for `creator` in a test; nobody, which is the installation itself, for one without staff."""
    place = Staff.objects.filter(creator=creator).select_related("user").order_by("pk").first()
    return place.user if place else None


class GroupFactory(DjangoModelFactory[Group]):
    class Meta:
        model = Group

    creator = factory.SubFactory(CreatorFactory)
    name = factory.Sequence(lambda n: f"Group {n}")
    created_at = LONG_AGO


class ContactFactory(DjangoModelFactory[Contact]):
    class Meta:
        model = Contact

    creator = factory.SubFactory(CreatorFactory)
    address_key = factory.Sequence(lambda n: f"contact{n}@example.net")
    name = factory.Sequence(lambda n: f"Contact {n}")
    created_at = LONG_AGO


class MembershipFactory(DjangoModelFactory[Membership]):
    class Meta:
        model = Membership

    group = factory.SubFactory(GroupFactory)
    contact = factory.LazyAttribute(lambda m: ContactFactory.create(creator=m.group.creator))
    started_at = LONG_AGO
    recorded_at = LONG_AGO


class BundleFactory(DjangoModelFactory[Bundle]):
    """A bundle with one sealed version of one small file. `sealed=False` leaves the version open, `files=0` empty."""

    class Meta:
        model = Bundle
        skip_postgeneration_save = True

    creator = factory.SubFactory(CreatorFactory)
    title = factory.Sequence(lambda n: f"Bundle {n}")
    created_at = LONG_AGO

    @factory.post_generation
    def files(self, create: bool, extracted: int | None, **kwargs: Any) -> None:
        bundle: Bundle = self  # type: ignore[assignment]
        sealed_at = None if kwargs.get("open") else LONG_AGO
        version = BundleVersion.objects.create(bundle=bundle, number=1, sealed_at=sealed_at)
        for number in range(1 if extracted is None else extracted):
            add_file(version, f"part-{number}.stl", f"solid {bundle.pk}-{number}".encode())


def add_file(version: BundleVersion, path: str, content: bytes) -> File:
    """A file with its blob and its bytes in the storage."""
    digest = hashlib.sha256(content).hexdigest()
    blob, created = Blob.objects.get_or_create(
        creator=version.bundle.creator,
        sha256=digest,
        defaults={
            "size": len(content),
            "crc32": zlib.crc32(content),
            "storage_key": f"test-{version.pk}-{digest[:24]}",
            "created_at": LONG_AGO,
        },
    )
    if created:
        store = storage()
        upload_id = store.create(blob.storage_key, part_size=max(1, len(content)))
        etag = store.put_part(blob.storage_key, upload_id, 1, io.BytesIO(content), len(content))
        store.complete(blob.storage_key, upload_id, [Part(1, len(content), etag)])
    return File.objects.create(
        version=version, blob=blob, path=path, path_key=path.casefold(), kind="stl", added_at=LONG_AGO
    )


class ReleaseFactory(DjangoModelFactory[Release]):
    """A draft release; `bundles=[…]` and `groups=[…]` are what it holds and whom it names."""

    class Meta:
        model = Release
        skip_postgeneration_save = True

    creator = factory.SubFactory(CreatorFactory)
    title = factory.Sequence(lambda n: f"Release {n}")
    created_at = LONG_AGO

    @factory.post_generation
    def bundles(self, create: bool, extracted: list[Bundle] | None, **kwargs: Any) -> None:
        for bundle in extracted or []:
            ReleaseItem.objects.create(release=self, bundle=bundle)

    @factory.post_generation
    def groups(self, create: bool, extracted: list[Group] | None, **kwargs: Any) -> None:
        for group in extracted or []:
            ReleaseAudience.objects.create(release=self, group=group)

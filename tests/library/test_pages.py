from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from groups.models import Creator
from library import services, views
from library.models import Bundle, Download, LibraryEntry
from library.prose import to_html
from tests import factories

pytestmark = pytest.mark.django_db
ClientOf = Callable[[User | None], Client]


def give(
    user: User, bundle: Bundle, now: datetime, *, origin_key: str = "release:1", title: str = "March"
) -> LibraryEntry:
    services.add_holdings(
        User.objects.filter(pk=user.pk).values_list("pk", flat=True),
        versions=list(bundle.versions.all()),
        origin_key=origin_key,
        title=title,
        group_name="Patrons, Hobbyist",
        given_at=now,
    )
    return LibraryEntry.objects.get(user=user, bundle=bundle)


def queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


def test_an_empty_library_says_how_things_come(member: User, client_of: ClientOf) -> None:
    page = client_of(member).get("/library/").content.decode()
    assert "Nothing here yet" in page
    assert "Redeem here" in page


def test_the_library_shows_creator_release_and_bundle_newest_first(
    creator: Creator, member: User, stranger: User, now: datetime, client_of: ClientOf
) -> None:
    sams = factories.BundleFactory.create(creator=stranger.staff_of.get().creator, title="Sam's map")
    old, new = (factories.BundleFactory.create(creator=creator, title=title) for title in ("Old", "New"))
    give(member, old, now - timedelta(days=60), title="January")
    give(member, sams, now - timedelta(days=10), origin_key="release:5", title="Maps")
    give(member, new, now, origin_key="release:2", title="March")
    page = client_of(member).get("/library/").content.decode()
    assert "3 bundles from 2 creators" in " ".join(page.split())
    places = [
        page.index(text)
        for text in ("Ana&#x27;s Forge", "March", ">New<", "January", ">Old<", "Sam&#x27;s Shop", "Maps")
    ]
    assert places == sorted(places)


def test_bundles_that_came_together_stand_together_and_come_as_one_zip(
    creator: Creator, member: User, now: datetime, client_of: ClientOf
) -> None:
    for title in ("Dragon", "Castle"):
        give(member, factories.BundleFactory.create(creator=creator, title=title), now)
    page = client_of(member).get("/library/").content.decode()
    assert page.count(">March</h3>") == 1
    assert page.count("Download all of it") == 1
    assert page.index(">Dragon<") < page.index(">Castle<")


def test_what_is_taken_back_while_the_page_is_made_is_left_out(
    creator: Creator, member: User, now: datetime, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(member, factories.BundleFactory.create(creator=creator, title="Dragon"), now)
    shelves = views._shelves

    def recalled_meanwhile(entries: Sequence[LibraryEntry]) -> list[views.Shelf]:
        services.end_holdings("release:1", reason="", now=now)
        return shelves(entries)

    monkeypatch.setattr(views, "_shelves", recalled_meanwhile)
    response = client_of(member).get("/library/")
    assert response.status_code == 200
    assert "Dragon" not in response.content.decode()


def test_what_came_twice_is_one_entry_under_the_latest(
    creator: Creator, member: User, now: datetime, client_of: ClientOf
) -> None:
    bundle = factories.BundleFactory.create(creator=creator, title="Dragon")
    give(member, bundle, now - timedelta(days=60), title="January")
    give(member, bundle, now, origin_key="release:2", title="March")
    page = client_of(member).get("/library/").content.decode()
    assert page.count(">Dragon<") == 1
    assert "March" in page
    assert "January" not in page


def test_the_library_is_this_persons_only(
    creator: Creator, member: User, stranger: User, now: datetime, client_of: ClientOf
) -> None:
    entry = give(member, factories.BundleFactory.create(creator=creator, title="Dragon"), now)
    assert "Dragon" not in client_of(stranger).get("/library/").content.decode()
    assert client_of(stranger).get(f"/library/{entry.pk}/").status_code == 404
    assert client_of(None).get(f"/library/{entry.pk}/").status_code == 302


def test_what_was_taken_back_leaves_the_list_and_its_page_says_why(
    creator: Creator, member: User, now: datetime, client_of: ClientOf
) -> None:
    bundle = factories.BundleFactory.create(creator=creator, title="Dragon")
    entry = give(member, bundle, now)
    services.end_holdings("release:1", reason="Sent by mistake.", now=now)
    assert "Nothing here yet" in client_of(member).get("/library/").content.decode()
    page = client_of(member).get(f"/library/{entry.pk}/").content.decode()
    assert "Recalled by Ana&#x27;s Forge on 21 November 2026" in page
    assert "Sent by mistake." in page
    assert "part-0.stl" not in page
    assert "all.zip" not in page


def test_the_list_costs_the_same_at_one_and_three_rows(
    creator: Creator, member: User, now: datetime, client_of: ClientOf
) -> None:
    client = client_of(member)
    give(member, factories.BundleFactory.create(creator=creator), now)
    one = queries(client, "/library/")
    for number in (2, 3):
        give(member, factories.BundleFactory.create(files=3), now, origin_key=f"release:{number}")
    assert queries(client, "/library/") == one


def test_a_long_library_is_paged(creator: Creator, member: User, now: datetime, client_of: ClientOf) -> None:
    for number in range(26):
        bundle = factories.BundleFactory.create(creator=creator, title=f"Bundle no {number:02}")
        give(member, bundle, now + timedelta(hours=number), origin_key=f"release:{number}")
    first = client_of(member).get("/library/").content.decode()
    second = client_of(member).get("/library/?page=2").content.decode()
    assert "Bundle no 25" in first
    assert "Bundle no 01" not in first
    assert "Bundle no 01" in second
    for odd in ("0", "-1", "x", "99999999999999999999"):
        assert client_of(member).get(f"/library/?page={odd}").status_code == 200


def test_a_bundles_page_shows_its_files_and_every_way_it_came(
    creator: Creator, member: User, now: datetime, client_of: ClientOf
) -> None:
    bundle = factories.BundleFactory.create(
        creator=creator,
        title="Dragon",
        description="# Big\n\n**Bold** <script>",
        licence="Print *freely*.",
        files=2,
    )
    entry = give(member, bundle, now - timedelta(days=60), title="January")
    give(member, bundle, now, origin_key="release:2", title="March")
    page = client_of(member).get(f"/library/{entry.pk}/").content.decode()
    for text in (
        "part-0.stl",
        "part-1.stl",
        "January",
        "March",
        "Patrons, Hobbyist",
        "<strong>Bold</strong>",
        "<em>freely</em>",
    ):
        assert text in page
    assert "<script> " not in page
    file = bundle.versions.get().files.first()
    assert file is not None
    assert file.blob.sha256 in page
    assert f"/library/files/{file.pk}/" in page


def test_a_bundles_page_costs_the_same_at_one_and_three_files(
    creator: Creator, member: User, now: datetime, client_of: ClientOf
) -> None:
    client = client_of(member)
    small = give(member, factories.BundleFactory.create(creator=creator), now)
    large = factories.BundleFactory.create(creator=creator, files=3)
    give(member, large, now)
    entry = give(member, large, now, origin_key="release:2")
    assert queries(client, f"/library/{small.pk}/") == queries(client, f"/library/{entry.pk}/")


def test_what_was_downloaded_says_when(
    creator: Creator, member: User, now: datetime, client_of: ClientOf
) -> None:
    bundle = factories.BundleFactory.create(creator=creator, files=2)
    entry = give(member, bundle, now)
    version = bundle.versions.get()
    page = client_of(member).get(f"/library/{entry.pk}/").content.decode()
    assert page.count("Downloaded") == 0
    Download.objects.create(user=member, version=version, file=version.files.first(), at=now)
    page = client_of(member).get(f"/library/{entry.pk}/").content.decode()
    assert page.count("Downloaded") == 1
    Download.objects.create(user=member, version=version, at=now + timedelta(days=1))
    page = client_of(member).get(f"/library/{entry.pk}/").content.decode()
    assert page.count("Downloaded") == 2
    assert "22 Nov 2026" in page


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("**b** *i* ~~s~~", "<p><strong>b</strong> <em>i</em> <s>s</s></p>"),
        ("# Title", "<h2>Title</h2>"),
        ("###### Deep", "<h4>Deep</h4>"),
        ("a\nb", "<p>a<br>\nb</p>"),
        ("<script>alert(1)</script>", "&lt;script&gt;"),
        ("![x](https://evil.example/pixel.gif)", "!<a href"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("[x](data:text/html,x)", "[x](data:text/html,x)"),
        ("[x](//evil.example)", "<a"),
        ("[x](https://a.example)", '<a href="https://a.example" rel="nofollow noopener noreferrer">x</a>'),
    ],
)
def test_a_creators_words_are_shown_and_can_do_nothing(source: str, html: str) -> None:
    rendered = to_html(source)
    assert html in rendered
    assert "<script" not in rendered
    assert "<img" not in rendered
    assert 'href="javascript' not in rendered

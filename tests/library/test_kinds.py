import os
import struct
import zipfile
from pathlib import Path

import pytest

from library.kinds import FileRefused, Finding, content_type, identify
from tests.library.test_zips import GOOD, zipped

TRIANGLE = b"\x01" * 50
ASCII_STL = b"solid dragon\nfacet normal 0 0 1\nouter loop\n"


def stl(triangles: int, header: bytes = b"made by a test", extra: bytes = b"") -> bytes:
    return header.ljust(80, b"\0") + struct.pack("<L", triangles) + TRIANGLE * triangles + extra


def glb(length: int = 20) -> bytes:
    return b"glTF" + struct.pack("<LL", 2, length) + b"\0" * 8


MODEL_TYPE = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"


def three_mf(
    target: str, *, part: str = "", kind: str = MODEL_TYPE, encoding: str = "utf-8", head: str = ""
) -> bytes:
    """A package that says in its relationships where its model lies."""
    said = (
        f'<?xml version="1.0" encoding="{encoding}"?>{head}'
        '<r:Relationships xmlns:r="http://schemas.openxmlformats.org/package/2006/relationships">'
        f"<r:Relationship Id='rel0' Target='{target}' Type='{kind}'/></r:Relationships>"
    )
    files = [
        ("[Content_Types].xml", b"x"),
        ("_rels/.rels", said.encode(encoding)),
        (part or target.lstrip("/"), b"<model/>"),
    ]
    return zipped(*files, method=zipfile.ZIP_DEFLATED)


def marked(data: bytes) -> bytes:
    """The ZIP with all its places four bytes further on, for a marker to stand before it."""
    out = bytearray(data)
    at = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    while at < end:
        [offset] = struct.unpack_from("<L", out, at + 42)
        struct.pack_into("<L", out, at + 42, offset + 4)
        at = data.find(b"PK\x01\x02", at + 4) if data.find(b"PK\x01\x02", at + 4) > 0 else end
    [offset] = struct.unpack_from("<L", out, end + 16)
    struct.pack_into("<L", out, end + 16, offset + 4)
    return bytes(out)


def found(name: str, data: bytes) -> Finding:
    return identify(name, len(data), lambda start, length: data[start : start + length])


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.stl", stl(3), "stl"),
        ("a.STL", stl(0), "stl"),
        ("a.stl", stl(2, header=b"solid but binary"), "stl"),
        ("a.stl", ASCII_STL, "stl"),
        ("a.stl", b"  SOLID x\nendsolid x", "stl"),
        ("a.3mf", zipped(("[Content_Types].xml", b"x"), ("3D/3dmodel.model", b"x")), "3mf"),
        ("a.zip", zipped(("3D/3dmodel.model", b"x")), "zip"),
        ("a.zip", GOOD, "zip"),
        ("a.zip", zipped(), "zip"),
        ("folder/a.pdf", b"%PDF-1.7\n", "pdf"),
        ("a.pdf", b"junk first\n%PDF-1.4\n", "pdf"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0", "png"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0", "jpeg"),
        ("a.jpeg", b"\x89PNG\r\n\x1a\n\0\0\0", "png"),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        ("a.gif", b"GIF89a\0", "gif"),
        ("a.obj", b"# cube\nmtllib ../../x\nv 1 2 3\n", "obj"),
        ("a.glb", glb(), "glb"),
        ("README.md", b"# Read me first\nsee %PDF-1.7", "text"),
        ("a.txt", "über".encode("utf-16"), "text"),
        ("LICENSE", b"words", "text"),
        ("no-extension", b"%PDF-1.7", "pdf"),
        ("no-extension", b"\0\1\2", "file"),
        ("a.lys", b"\0anything", "file"),
        ("a.blend", b"BLENDER", "file"),
        ("a.lychee", b"PK\x03\x04 its own rules", "file"),
        ("a.f3d", GOOD, "file"),
        ("a.svg", b"<svg onload=alert(1)>", "file"),
        ("READ_ME.md", b"# !/ is no script", "text"),
        ("begins.zip", b"PK00" + marked(GOOD), "zip"),
        ("begins.zip", b"PK\7\x08" + marked(GOOD), "zip"),
        ("site.zip", zipped(("myfigures.com/", b""), ("myfigures.com/a.stl", b"x")), "zip"),
        ("a.3mf", three_mf("/model/part.model"), "3mf"),
        ("a.3mf", three_mf("3D/Models/deeper/part.model"), "3mf"),
        ("a.3mf", three_mf("/MODEL/P%C3%A4rt.model", part="model/pärt.model"), "3mf"),
        ("a.3mf", three_mf("/model/part.model", encoding="utf-16"), "3mf"),
        ("a.stl", b"\xef\xbb\xbfsolid x\nendsolid x", "stl"),
        ("a.obj", b"# mac\rv 1 2 3\rf 1 1 1\r", "obj"),
        ("a.obj", b"  vn 0 0 1\n", "obj"),
        ("a.obj", b"\xef\xbb\xbfusemtl gold\n", "obj"),
        ("a.obj", b"# a long story\n" * 8_000 + b"v 1 2 3\n", "obj"),
        ("a.txt", b"\0\0\xfe\xff\0\0\0a", "text"),
        ("MZ.txt", b"MZ is how it begins", "text"),
    ],
)
def test_a_file_is_what_its_bytes_say(name: str, data: bytes, kind: str) -> None:
    assert found(name, data).kind == kind


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("setup.exe", b"anything", "is a program"),
        ("Dragon.stl.LNK", b"anything", "is a program"),
        ("a.js", b"alert(1)", "is a program"),
        ("a.py", b"print()", "is a program. Programs and scripts cannot be given"),
        ("link.url", b"[InternetShortcut]", "is a program"),
        ("Letter.DOCM", GOOD, "is a program"),
        ("tidy.sh", b"rm", "is a program"),
        ("start.desktop", b"[Desktop Entry]", "is a program"),
        ("Figures.app/Contents/Info.plist", b"<plist>", "is a program"),
        ("readme.txt", b"#!/bin/sh\n", "is a program"),
        ("no-suffix", b"\xef\xbb\xbf#! /usr/bin/env python", "is a program"),
        ("dragon.stl", b"\xca\xfe\xba\xbf\0", "is a program"),
        ("a.obj", b"# comments and no model\n" * 3, "should be a OBJ model"),
        ("a.obj", b"prose\n" * 20_000, "should be a OBJ model"),
        ("a.3mf", three_mf("/model/part.model", part="elsewhere.model"), "should be a 3MF model"),
        ("a.3mf", three_mf("/model/part.model", kind="thumbnail"), "should be a 3MF model"),
        ("a.3mf", three_mf("/a.model", head='<!DOCTYPE x [<!ENTITY a "b">]>'), "should be a 3MF model"),
        ("a.3mf", zipped(("_rels/.rels", b"<not xml")), "should be a 3MF model"),
        ("dragon.stl", b"MZ" + b"\0" * 200, "is a program"),
        ("both-at-once.stl", stl(2, header=b"MZ"), "is a program"),
        ("dragon.stl", b"\x7fELF\2\1\1", "is a program"),
        ("dragon", b"\xcf\xfa\xed\xfe\7", "is a program"),
        ("dragon.dat", b"L\0\0\0\1\x14\2\0", "is a program"),
        ("book.pdf", b"<html>", "should be a PDF document, but what is in it is a text file"),
        ("book.pdf", b"\0\1", "is damaged, or it is no PDF document"),
        ("a.stl", b"\x89PNG\r\n\x1a\n\0", "should be a STL model, but what is in it is a PNG picture"),
        ("a.png", stl(3), "should be a PNG picture"),
        ("a.stl", stl(100)[:-60], "is damaged, or it is no STL model"),
        ("a.stl", b"solid of a story", "should be a STL model"),
        ("a.obj", b"\x4c\x01\0\0", "is damaged, or it is no OBJ model"),
        ("a.obj", b"prose", "should be a OBJ model"),
        ("a.glb", glb(9999), "is damaged, or it is no GLB model"),
        ("a.txt", b"\0\1\2", "is damaged, or it is no text file"),
        ("a.zip", b"Rar!\x1a\7\1\0", "is damaged, or it is no ZIP archive"),
        ("a.zip", b"MZ" + b"\0" * 70 + GOOD, "is a program"),
        ("a.zip", GOOD[:-3], "a.zip”: This ZIP is damaged"),
        ("a.3mf", GOOD, "should be a 3MF model, but what is in it is a ZIP archive"),
        ("a.3mf", GOOD + b"x", "a.3mf”: This ZIP has something after its end"),
    ],
)
def test_programs_and_lies_are_refused_with_a_sentence(name: str, data: bytes, why: str) -> None:
    with pytest.raises(FileRefused, match=why):
        found(name, data)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.zip", zipped(("b.7z", b"x")), "another archive inside"),
        ("a.z01", b"\0\1", "One piece of a split archive"),
        ("a.part02.rar", b"Rar!", "One piece of a split archive"),
        ("a.7z.001", b"7z", "One piece of a split archive"),
        ("x/__MACOSX/a.stl", stl(1), "hidden macOS file"),
        ("a.stl", stl(2, extra=b"colours"), "after its last triangle"),
        ("a.stl", stl(2), ""),
        ("a.f3d", zipped(("b.7z", b"x")), ""),
    ],
)
def test_what_is_only_unhandy_is_said(name: str, data: bytes, words: str) -> None:
    warning = found(name, data).warning
    assert words in warning
    assert bool(words) == bool(warning)


def test_a_warning_always_fits_its_column() -> None:
    data = zipped((f"{'n' * 200}.zip", b"x"), ("A" * 200, b"x"), ("a" * 200, b"x"), ("__MACOSX/x", b"x"))
    assert 200 < len(found("x.zip", data).warning) <= 300


def test_only_known_kinds_have_a_type_of_their_own() -> None:
    assert content_type("stl") == "model/stl"
    assert content_type("file") == content_type("unheard of") == "application/octet-stream"


SAMPLES = Path(os.environ.get("SAMPLES", "../shared/samples")) / "models"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the folder of sample models is not here")
def test_the_sample_models_are_known() -> None:
    kinds = {path.suffix: found(path.name, path.read_bytes()).kind for path in sorted(SAMPLES.iterdir())}
    assert kinds[".stl"] == "stl"
    assert kinds[".3mf"] == "3mf"

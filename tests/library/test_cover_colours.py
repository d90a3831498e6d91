"""A cover looks as its picture does in a browser: every mode, with its pixels looked at."""

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageCms, ImageMode, UnidentifiedImageError

import library.shrink
from library.services import covers
from library.shrink import shrink

ORANGE = (230, 120, 40)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def shown(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(shrink(data)))
    image.load()
    return image


def near(image: Image.Image, at: tuple[int, int], colour: tuple[int, ...], within: int = 12) -> bool:
    found = image.convert("RGB" if len(colour) == 3 else "RGBA").getpixel(at)
    assert isinstance(found, tuple)
    return all(abs(one - other) <= within for one, other in zip(found, colour, strict=True))


def plain(mode: str, colour: tuple[int, ...] = ORANGE) -> Image.Image:
    return Image.new("RGB", (64, 64), colour[:3]).convert(mode)


# What each mode makes of the orange, and a format that can hold the mode.
GREY = (144, 144, 144)
MODES = {
    "1": ("PNG", lambda: Image.new("1", (64, 64), 1), (255, 255, 255)),
    "L": ("PNG", lambda: plain("L"), GREY),
    "LA": ("PNG", lambda: plain("LA"), GREY),
    "P": ("PNG", lambda: plain("RGB").quantize(4), ORANGE),
    "PA": ("PNG", lambda: plain("RGBA").convert("PA"), ORANGE),
    "RGB": ("PNG", lambda: plain("RGB"), ORANGE),
    "RGBA": ("WEBP", lambda: plain("RGBA"), ORANGE),
    "CMYK": ("JPEG", lambda: plain("CMYK"), ORANGE),
    "YCbCr": ("JPEG", lambda: plain("YCbCr"), ORANGE),
    "I;16": ("PNG", lambda: Image.new("I;16", (64, 64), 144 * 257), GREY),
}
# No PNG, JPEG, WebP or GIF is opened in these: Pillow has them for TIFF, for working with colours, or within itself.
ELSEWHERE = {"F", "LAB", "HSV", "RGBX", "RGBa", "La", "I", "I;16L", "I;16B", "I;16N"}


def test_every_mode_pillow_knows_is_looked_at() -> None:
    known = set(MODES) | ELSEWHERE
    for mode in ("1", "L", "I", "F", "P", "RGB", "RGBX", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "RGBa", "LA"):
        assert ImageMode.getmode(mode).mode in known
    assert {"La", "PA", "I;16", "I;16L", "I;16B", "I;16N"} <= known


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_each_mode_keeps_its_colour(mode: str) -> None:
    form, make, colour = MODES[mode]
    options = {"lossless": True} if form == "WEBP" else {}
    try:
        data = saved(make(), form, **options)
    except OSError:
        # PNG has no palette with a channel of its own: what Pillow would save it as.
        data = saved(make().convert("RGBA"), form)
    assert near(shown(data), (32, 32), colour)


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16L", "I;16B"])
def test_grey_of_more_than_eight_bits_is_scaled_in_whatever_mode_it_is_read(mode: str) -> None:
    grey = library.shrink._continuous(Image.new(mode, (4, 4), 144 * 257))
    assert (grey.mode, grey.getpixel((1, 1))) == ("L", 144)


def test_sixteen_bits_of_grey_go_from_black_to_white() -> None:
    ramp = Image.new("I;16", (256, 16))
    for x in range(256):
        for y in range(16):
            ramp.putpixel((x, y), x * 257)
    image = shown(saved(ramp, "PNG"))
    for x in (2, 64, 128, 192, 253):
        assert near(image, (x, 8), (x, x, x))


def png(*chunks: tuple[bytes, bytes], wrong_sum: bytes = b"") -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        crc = zlib.crc32(kind + content) ^ (1 if kind == wrong_sum else 0)
        out += struct.pack(">L", len(content)) + kind + content + struct.pack(">L", crc)
    return out


def grey_16(clear: int) -> bytes:
    """Left half one value, right half another, and `clear` is to be seen through."""
    row = b"\0" + struct.pack(">32H", *[0x4040] * 16, *[0x4041] * 16)
    return png(
        (b"IHDR", struct.pack(">LLBBBBB", 32, 8, 16, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", clear)),
        (b"IDAT", zlib.compress(row * 8)),
        (b"IEND", b""),
    )


def test_what_is_clear_among_sixteen_bits_stays_clear_and_nothing_beside_it() -> None:
    image = shown(grey_16(0x4041))
    assert near(image, (4, 4), (64, 64, 64, 255))
    assert image.convert("RGBA").getpixel((28, 4))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_colour_that_is_clear_stays_clear(mode: str) -> None:
    image = Image.new(mode, (64, 64), {"L": 200, "RGB": (0, 200, 0), "1": 1}[mode])
    image.paste({"L": 10, "RGB": (200, 0, 0), "1": 0}[mode], (0, 0, 32, 64))
    data = saved(image, "PNG", transparency={"L": 200, "RGB": (0, 200, 0), "1": 1}[mode])
    small = shown(data).convert("RGBA")
    assert small.getpixel((50, 32))[3] == 0  # type: ignore[index]
    assert small.getpixel((10, 32))[3] == 255  # type: ignore[index]


def test_a_palette_with_clear_entries_is_no_error() -> None:
    image = plain("RGBA").quantize(8)
    image.putpixel((0, 0), 1)
    data = saved(image, "PNG", transparency=bytes([128, 255, 255]))
    assert shown(data).mode == "RGBA"
    assert abs(shown(data).getpixel((32, 32))[3] - 128) < 4  # type: ignore[index]


def test_half_clear_edges_keep_their_colour_when_it_is_made_small() -> None:
    image = Image.new("RGBA", (2400, 2400), (0, 255, 0, 0))
    image.paste((*ORANGE, 255), (0, 0, 1201, 2400))
    edge = shown(saved(image, "PNG"))
    assert near(edge, (590, 600), (*ORANGE, 255))
    red, green, _blue, _alpha = edge.getpixel((600, 600))  # type: ignore[misc]
    assert red > green, "nothing of the clear green bled in"


# --- what a browser does not mind -------------------------------------------------------------------


def turned(orientation: int) -> bytes:
    image = Image.new("RGB", (60, 40), (0, 0, 200))
    image.paste(ORANGE, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, "JPEG", exif=exif, quality=95)


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (5, 5)), (2, (54, 5)), (3, (54, 34)), (4, (5, 34)), (5, (5, 5)), (6, (34, 5)), (7, (34, 54)), (8, (5, 54))],
)  # fmt: skip
def test_it_stands_upright_whatever_way_the_camera_was_held(
    orientation: int, corner: tuple[int, int]
) -> None:
    image = shown(turned(orientation))
    assert image.size == ((60, 40) if orientation < 5 else (40, 60))
    assert near(image, corner, ORANGE, within=40)


def odd_exif() -> bytes:
    data = bytearray(turned(6))
    at = data.index(b"Exif\0\0") + 6
    struct.pack_into("<L" if data[at : at + 2] == b"II" else ">L", data, at + 4, 0xFFFFFF)
    return bytes(data)


def odd_profile() -> bytes:
    return saved(plain("RGB"), "PNG", icc_profile=b"this is no profile" * 20)


def profile_for_other_channels() -> bytes:
    return saved(
        plain("RGB"), "JPEG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    )


def wrong_sum(of: bytes = b"tEXt") -> bytes:
    return png(
        (b"IHDR", struct.pack(">LLBBBBB", 8, 8, 8, 2, 0, 0, 0)),
        (b"tEXt", b"author\0Ana"),
        (b"IDAT", zlib.compress((b"\0" + bytes(ORANGE) * 8) * 8)),
        (b"IEND", b""),
        wrong_sum=of,
    )


def long_history() -> bytes:
    return png(
        (b"IHDR", struct.pack(">LLBBBBB", 8, 8, 8, 2, 0, 0, 0)),
        (b"zTXt", b"history\0\0" + zlib.compress(b"a" * 3_000_000)),
        (b"IDAT", zlib.compress((b"\0" + bytes(ORANGE) * 8) * 8)),
        (b"IEND", b""),
    )


@pytest.mark.parametrize("make", [odd_exif, odd_profile, profile_for_other_channels, long_history, wrong_sum])
def test_damage_in_what_is_not_the_picture_is_no_reason_to_refuse_it(make: Callable[[], bytes]) -> None:
    assert shown(make()).size in {(64, 64), (60, 40), (40, 60), (8, 8)}


def test_damage_in_the_picture_itself_is_one() -> None:
    with pytest.raises(UnidentifiedImageError):
        shrink(wrong_sum(b"IHDR"))


def test_colours_are_those_the_profile_means() -> None:
    # A profile whose red is sRGB's green, and the other way round: nobody can take one for the other.
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">L", swapped, 128)[0]
    for index in range(count):
        tag = swapped[132 + 12 * index :][:4]
        if tag in (b"rXYZ", b"gXYZ"):
            swapped[132 + 12 * index : 136 + 12 * index] = b"gXYZ" if tag == b"rXYZ" else b"rXYZ"
    for form in ("PNG", "JPEG"):
        image = shown(saved(Image.new("RGB", (64, 64), (220, 20, 20)), form, icc_profile=bytes(swapped)))
        red, green, _blue = image.convert("RGB").getpixel((32, 32))  # type: ignore[misc]
        assert green > 150 > red


def test_the_first_frame_of_a_film_is_the_cover() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (ORANGE, (0, 0, 200), (0, 200, 0))]
    for form in ("GIF", "WEBP", "PNG"):
        data = saved(frames[0], form, save_all=True, append_images=frames[1:])
        assert near(shown(data), (32, 32), ORANGE)


def test_forty_million_points_with_holes_in_them_fit_into_the_little_memory() -> None:
    """Where the process lives in 512 MB: one copy of such a picture has 160."""
    data = saved(Image.new("RGBA", (6_600, 6_000), (*ORANGE, 100)), "PNG", compress_level=1)
    small = Image.open(io.BytesIO(covers._shrunk(data)))
    assert near(small, (100, 100), (*ORANGE, 100))

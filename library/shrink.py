"""A picture on stdin becomes a small WebP on stdout. Run as a script, alone in a process with little to spare.

Whoever sends a picture chooses what the decoder reads, so it decodes here: 512 MB, 10 seconds of processor, no
files, and nothing of the application in memory. Exit code 3 and a word on stderr say that it was refused.
"""

import contextlib
import io
import resource
import sys
import warnings
import zlib

from PIL import Image, ImageChops, ImageCms, PngImagePlugin

MEGAPIXELS = 40
EDGE = 1200
FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]
# Words that lie unpacked in a PNG: editors write whole histories there. A bomb is larger.
MAX_TEXT = 16 * 1024**2
PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112
# Exif 2.32, 4.6.4: what undoes each orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def shrink(data: bytes) -> bytes:
    """At most 1200 px a side, upright, the first frame only; no EXIF, no colour profile, no comments.

    It looks as a browser shows it: what Pillow merely warns of, and damage in what is not the picture, is nobody's
    business. Raises whatever Pillow raises.
    """
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = MEGAPIXELS * 1_000_000
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_TEXT
    with Image.open(io.BytesIO(_undamaged(data)), formats=FORMATS) as source:
        source.draft("RGB", (EDGE, EDGE))
        source.load()
        turn, profile = _turn(source), source.info.get("icc_profile")
        picture = _continuous(source)
    # Made small before it is copied any further: forty million points are large.
    picture.thumbnail((EDGE, EDGE))
    if turn is not None:
        picture = picture.transpose(turn)
    picture = _in_srgb(picture, profile)
    # A new image: nothing that hung on the old one comes along.
    clean = Image.new(picture.mode, picture.size)
    clean.paste(picture)
    out = io.BytesIO()
    clean.save(out, "WEBP", quality=82)
    return out.getvalue()


def _undamaged(data: bytes) -> bytes:
    """A PNG without the parts that are not its picture and do not come to their own sum.

    PNG, 3rd edition, 13.1: a decoder may go on after an error in an ancillary chunk, and browsers do; Pillow stops.
    """
    if not data.startswith(PNG):
        return data
    kept, at = [PNG], len(PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        ancillary = len(data) >= end and data[at + 4] & 0x20
        if not ancillary or zlib.crc32(data[at + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big"):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _turn(source: Image.Image) -> Image.Transpose | None:
    """What sets it upright, if it says so; EXIF that cannot be read says nothing."""
    with contextlib.suppress(Exception):
        return UPRIGHT.get(source.getexif().get(ORIENTATION, 1))
    return None


def _continuous(source: Image.Image) -> Image.Image:
    """The picture in a mode whose points can be mixed, 8 bits a channel, clear where it is clear."""
    if source.mode.startswith("I"):
        # 16 bits of grey: Pillow would cut everything above 255 off, and leave white.
        clear = source.info.get("transparency")
        wide = source.convert("I")
        grey = wide.point(lambda value: value * (1 / 257)).convert("L")
        if not isinstance(clear, int):
            return grey
        # Clear where the value is exactly this one: 255 within half a step of it, and nothing further away.
        below = wide.point(lambda value: value * 255 + (1 - clear) * 255).convert("L")
        above = wide.point(lambda value: value * -255 + (1 + clear) * 255).convert("L")
        return Image.merge("LA", (grey, ImageChops.invert(ImageChops.darker(below, above))))
    if source.has_transparency_data:
        return source if source.mode in {"RGBA", "LA"} else source.convert("RGBA")
    return source.convert("RGB") if source.mode in {"1", "P", "PA", "RGBX", "HSV"} else source


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """As RGB, or RGBA if it is clear somewhere, in the colours its profile means: it goes without the profile."""
    alpha = picture.getchannel("A") if "A" in picture.getbands() else None
    colours = picture if alpha is None else picture.convert("L" if picture.mode == "LA" else "RGB")
    if profile:
        # One that is broken, or is for other channels, is ignored, as browsers do.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                colours, meant, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            colours = converted or colours
    colours = colours.convert("RGB")
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (512 * 1024**2, 512 * 1024**2))
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        sys.stdout.buffer.write(shrink(sys.stdin.buffer.read()))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        sys.stderr.write("large")
        return 3
    except Exception as error:
        sys.stderr.write(type(error).__name__)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A picture on stdin becomes a small WebP on stdout. Run as a script, alone in a process with little to spare.

Whoever sends a picture chooses what the decoder reads, so it decodes here: 512 MB, 10 seconds of processor, no
files, and nothing of the application in memory. Exit code 3 and a word on stderr say that it was refused.
"""

import io
import resource
import sys
import warnings

from PIL import Image, ImageOps

MEGAPIXELS = 40
EDGE = 1200
FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]


def shrink(data: bytes) -> bytes:
    """At most 1200 px a side, upright, the first frame only; no EXIF, no colour profile, no comments.

    Raises whatever Pillow raises, its warnings included.
    """
    warnings.simplefilter("error")
    Image.MAX_IMAGE_PIXELS = MEGAPIXELS * 1_000_000
    with Image.open(io.BytesIO(data), formats=FORMATS) as source:
        source.draft("RGB", (EDGE, EDGE))
        source.load()
        picture = ImageOps.exif_transpose(source).convert("RGBA" if source.has_transparency_data else "RGB")
    picture.thumbnail((EDGE, EDGE))
    # A new image: nothing that hung on the old one comes along.
    clean = Image.new(picture.mode, picture.size)
    clean.paste(picture)
    out = io.BytesIO()
    clean.save(out, "WEBP", quality=82)
    return out.getvalue()


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

"""Pictures of models (the painter's algorithm, one lamp, a soft shadow) and a rule book as a PDF."""

import io
from collections.abc import Callable, Sequence
from math import cos, radians, sin

from PIL import Image, ImageDraw, ImageFilter

from config.demo.shapes import Mesh, Point, cross, normal, unit

Colour = tuple[int, int, int]
TINT_BELOW = (58, 52, 70)
# Drawn this much larger, then shrunk: Pillow's polygons have no smooth edges of their own.
FINER = 3


def picture(
    scene: Sequence[tuple[Mesh, Colour]],
    *,
    ground: Colour,
    size: tuple[int, int] = (1200, 900),
    turn: float = 32,
    tilt: float = 28,
    fill: float = 0.72,
) -> Image.Image:
    """The `scene` seen from above its corner, on a plain `ground`, filling that share of the picture."""
    t, e = radians(turn), radians(tilt)
    ahead = unit((sin(t) * cos(e), cos(t) * cos(e), -sin(e)))
    right = unit(cross(ahead, (0, 0, 1)))
    up = cross(right, ahead)
    # Over the viewer's left shoulder, whichever way the scene is turned.
    lamp = unit((-0.75 * right[0] - 0.6 * sin(t), -0.75 * right[1] - 0.6 * cos(t), 1.0))

    def seen(p: Point) -> tuple[float, float, float]:
        return tuple(p[0] * axis[0] + p[1] * axis[1] + p[2] * axis[2] for axis in (right, up, ahead))  # type: ignore[return-value]

    points = [seen(p) for mesh, _ in scene for triangle in mesh for p in triangle]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    wide, high = size[0] * FINER, size[1] * FINER
    scale = fill * min(wide / (max(xs) - min(xs)), high / (max(ys) - min(ys)))
    middle = ((max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2)

    def place(p: Sequence[float]) -> tuple[float, float]:
        return (wide / 2 + (p[0] - middle[0]) * scale, high / 2 - (p[1] - middle[1]) * scale)

    canvas = Image.new("RGB", (wide, high), ground)
    darkened = tuple(int(part * 0.62) for part in ground)
    canvas.paste(darkened, mask=shadow(scene, lamp, lambda p: place(seen(p)), (wide, high)))
    draw = ImageDraw.Draw(canvas)
    faces = []
    for mesh, colour in scene:
        for triangle in mesh:
            facing = normal(triangle)
            if facing[0] * ahead[0] + facing[1] * ahead[1] + facing[2] * ahead[2] < 0.02:
                corners = [seen(p) for p in triangle]
                faces.append((sum(c[2] for c in corners), corners, shade(colour, facing, lamp)))
    for _, corners, fill_with in sorted(faces, key=lambda face: -face[0]):
        draw.polygon([place(c) for c in corners], fill=fill_with, outline=fill_with)
    return canvas.resize(size, Image.Resampling.LANCZOS)


def shadow(
    scene: Sequence[tuple[Mesh, Colour]],
    lamp: Point,
    place: Callable[[Point], tuple[float, float]],
    size: tuple[int, int],
) -> Image.Image:
    """Where the ground is dark: every triangle thrown down along the lamp's rays, small and blurred, then grown."""
    small = 6
    mask = Image.new("L", (size[0] // small, size[1] // small), 0)
    draw = ImageDraw.Draw(mask)
    for mesh, _ in scene:
        for triangle in mesh:
            fallen = [(x - lamp[0] / lamp[2] * z, y - lamp[1] / lamp[2] * z, 0.0) for x, y, z in triangle]
            draw.polygon([(x / small, y / small) for x, y in map(place, fallen)], fill=130)
    return mask.filter(ImageFilter.GaussianBlur(size[0] / small / 90)).resize(size, Image.Resampling.BILINEAR)


def shade(colour: Colour, facing: Point, lamp: Point) -> Colour:
    """Light from the lamp, a little from the sky, and cool where neither reaches."""
    lit = max(0.0, sum(a * b for a, b in zip(facing, lamp, strict=True)))
    sky = 0.5 + 0.5 * facing[2]
    bright = min(1.0, 0.2 + 0.66 * lit + 0.22 * sky)
    gleam = 34 * lit**16
    return tuple(  # type: ignore[return-value]
        min(255, int(below + (own - below) * bright + gleam))
        for own, below in zip(colour, TINT_BELOW, strict=True)
    )


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88, optimize=True)
    return out.getvalue()


def pdf(title: str, pages: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """A4 pages, each a heading and its paragraphs, in Times: the smallest PDF that every reader opens."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    objects += [
        f"<< /Type /Font /Subtype /Type1 /BaseFont /Times-{face} /Encoding /WinAnsiEncoding >>"
        for face in ("Roman", "Bold")
    ]
    kids = []
    for number, (heading, paragraphs) in enumerate(pages, 1):
        content = drawn_page(title, number, heading, paragraphs)
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /R 3 0 R /B 4 0 R >> >>"
            f" /Contents {len(objects) + 2} 0 R >>"
        )
        objects.append(
            f"<< /Length {len(content.encode('cp1252', 'replace'))} >>\nstream\n{content}\nendstream"
        )
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    out, offsets = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252", "replace")
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def drawn_page(title: str, number: int, heading: str, paragraphs: Sequence[str]) -> str:
    def text(face: str, size: int, x: int, y: int, words: str) -> str:
        safe = words.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        return f"BT /{face} {size} Tf {x} {y} Td ({safe}) Tj ET"

    lines = [text("B", 22, 72, 752, heading), "0.6 w 72 738 m 523 738 l S"]
    y = 708
    for paragraph in paragraphs:
        for line in wrapped(paragraph, 84):
            lines.append(text("R", 12, 72, y, line))
            y -= 17
        y -= 9
    lines.append(text("R", 9, 72, 44, f"{title}, page {number}"))
    return "\n".join(lines)


def wrapped(words: str, width: int) -> list[str]:
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines

"""3D models from formulas, in millimetres, z up: the demo needs files that a slicer opens, and owes nobody a licence."""

import io
import struct
import zipfile
from collections.abc import Callable, Sequence
from math import cos, exp, pi, sin, sqrt, tau

Point = tuple[float, float, float]
Triangle = tuple[Point, Point, Point]
Mesh = list[Triangle]


def surface(at: Callable[[int, int], Point], across: int, along: int) -> Mesh:
    """The triangles of a grid that closes around itself `across` and lies open `along`."""
    mesh: Mesh = []
    for i in range(across):
        for j in range(along):
            a, b, c, d = at(i, j), at((i + 1) % across, j), at((i + 1) % across, j + 1), at(i, j + 1)
            mesh += [(a, b, c), (a, c, d)]
    return mesh


def vessel(
    radius: Callable[[float, float], float], height: float, *, wall: float = 2.4, sides: int = 144
) -> Mesh:
    """A hollow body around the z axis with a floor; `radius` of the angle and of the height's share (0 to 1)."""
    layers = 72

    def at(i: int, j: int) -> Point:
        # Up the outside, over the rim, down the inside to the floor.
        inside = j > layers
        share = min(1.0, max((2 * layers + 1 - j) / layers, wall / height)) if inside else j / layers
        angle = tau * i / sides
        wide = radius(angle, share) - (wall if inside else 0)
        return (wide * cos(angle), wide * sin(angle), height * share)

    mesh = surface(at, sides, 2 * layers + 1)
    for i in range(sides):
        mesh.append((at((i + 1) % sides, 0), at(i, 0), (0.0, 0.0, 0.0)))
        last = 2 * layers + 1
        mesh.append((at(i, last), at((i + 1) % sides, last), (0.0, 0.0, wall)))
    return mesh


def ring(
    outer: Sequence[tuple[float, float]], inner: Sequence[tuple[float, float]], low: float, high: float
) -> Mesh:
    """An outline with a hole, pulled up from `low` to `high`; both outlines have as many points."""
    rims = [(outer, low), (outer, high), (inner, high), (inner, low), (outer, low)]
    return surface(lambda i, j: (*rims[j][0][i], rims[j][1]), len(outer), 4)


def round_of(radius: float, points: int) -> list[tuple[float, float]]:
    return [(radius * cos(tau * i / points), radius * sin(tau * i / points)) for i in range(points)]


def box(corner: Point, size: Point) -> Mesh:
    """A block of that size whose lowest corner is there."""
    (x, y, z), (wide, deep, high) = corner, size
    corners = [(x, y), (x + wide, y), (x + wide, y + deep), (x, y + deep)]
    hole = [(x + wide / 2, y + deep / 2)] * 4
    return ring(corners, hole, z, z + high)


def moved(mesh: Mesh, x: float = 0, y: float = 0, z: float = 0, *, turn: float = 0, scale: float = 1) -> Mesh:
    c, s = cos(turn) * scale, sin(turn) * scale

    def move(p: Point) -> Point:
        return (p[0] * c - p[1] * s + x, p[0] * s + p[1] * c + y, p[2] * scale + z)

    return [(move(a), move(b), move(c_)) for a, b, c_ in mesh]


def gear(teeth: int, *, module: float = 3.0, thick: float = 8.0, bore: float = 4.0) -> Mesh:
    """A spur gear with a rim, a hub and a bore; two of one module mesh."""
    pitch, steps = teeth * module / 2, 8
    profile = (0.0, 0.35, 1.0, 1.0, 1.0, 0.35, 0.0, 0.0)
    count = teeth * steps
    outline = []
    for i in range(count):
        radius = pitch - 1.15 * module + 2.15 * module * profile[i % steps]
        angle = tau * i / count
        outline.append((radius * cos(angle), radius * sin(angle)))
    inside = max(pitch - 2.6 * module, bore * 2.2)
    hub = min(bore * 2, inside - 0.5)
    return [
        *ring(outline, round_of(inside, count), 0, thick),
        *ring(round_of(inside, count), round_of(hub, count), 0, thick * 0.45),
        *ring(round_of(hub, count), round_of(bore, count), 0, thick * 1.35),
    ]


def vase(*, lobes: int, twist: float, height: float = 130, belly: float = 34) -> Mesh:
    """A vase to print in one spiral: `lobes` ribs that turn by `twist` rounds on the way up."""

    def radius(angle: float, share: float) -> float:
        body = belly * (0.62 + 0.5 * sin(pi * (0.12 + 0.92 * share)) - 0.16 * sin(tau * share * 0.8))
        return body + 2.6 * cos(lobes * (angle + tau * twist * share)) * (0.35 + share)

    return vessel(radius, height)


def knot(p: int, q: int, *, size: float = 26, tube: float = 8.5) -> Mesh:
    """A torus knot, standing on the bed: a line that winds `p` times around and `q` times through."""
    steps, sides = 260, 20

    def line(t: float) -> Point:
        reach = size * (2 + cos(q * t)) / 2
        return (reach * cos(p * t) * 1.15, reach * sin(p * t) * 1.15, size * sin(q * t) * 0.75)

    def at(i: int, j: int) -> Point:
        t = tau * i / steps
        here, ahead = line(t), line(t + 0.01)
        forward = unit((ahead[0] - here[0], ahead[1] - here[1], ahead[2] - here[2]))
        aside = unit(cross(forward, (0.3, 0.2, 1.0)))
        up = cross(aside, forward)
        angle = tau * j / sides
        a, b = tube * cos(angle), tube * sin(angle)
        return (
            here[0] + a * aside[0] + b * up[0],
            here[1] + a * aside[1] + b * up[1],
            here[2] + a * aside[2] + b * up[2] + size * 0.75 + tube,
        )

    return surface(at, steps, sides)


def moon(*, radius: float = 42) -> Mesh:
    """A globe with seas and craters, open below, for a light inside."""
    craters = [(-0.5, 0.5, 0.3), (0.35, -0.1, 0.42), (1.1, 0.55, 0.2), (-1.2, -0.25, 0.26), (0.1, 0.95, 0.16)]
    craters += [(tau * n / 9 + 1.7, sin(n * 2.4) * 0.8, 0.14 + 0.05 * (n % 3)) for n in range(9)]
    around, layers, foot = 180, 110, -1.25

    def high(lon: float, lat: float) -> float:
        rough = (0.35 * sin(5 * lon + 3 * lat) * cos(6 * lat) + 0.18 * sin(17 * lon) * cos(13 * lat)) * cos(
            lat
        )
        for east, north, size in craters:
            away = sqrt((lat - north) ** 2 + (2 * sin((lon - east) / 2) * cos(lat)) ** 2) / size
            rough += 1.3 * exp(-(((away - 1) * 4.5) ** 2)) - 1.9 * exp(-((away * 1.25) ** 4))
        return radius + rough

    def at(i: int, j: int) -> Point:
        lon, lat = tau * i / around, foot + (pi / 2 - 0.01 - foot) * j / layers
        reach = high(lon, lat)
        return (reach * cos(lat) * cos(lon), reach * cos(lat) * sin(lon), reach * (sin(lat) - sin(foot)))

    return surface(at, around, layers)


def tower(*, floors: int = 3, wide: float = 46) -> Mesh:
    """A dice tower: round walls with courses of stone, battlements, a gate with steps where the dice come out."""
    mesh: Mesh = []
    points = 96
    for course in range(floors * 5):
        low = course * 7.0
        out = wide / 2 + (0.9 if course % 2 else 0.0) + (1.8 if course % 5 == 4 else 0.0)
        mesh += ring(round_of(out, points), round_of(wide / 2 - 4, points), low, low + 6.6)
    top = floors * 35.0
    mesh += ring(round_of(wide / 2 + 5, points), round_of(wide / 2 - 4, points), top, top + 6)
    for i in range(10):
        merlon = box((wide / 2 - 2.5, -4.2, top + 6), (7, 8.4, 9))
        mesh += moved(merlon, turn=tau * i / 10)
    for step in range(4):
        mesh += box((wide / 2 + 6 * step, -13, 0), (7, 26, 14 - 3.5 * step))
    for side in (-1, 1):
        mesh += box((wide / 2, side * 15 - 2.5, 0), (28, 5, 18))
    for floor in range(floors):
        for i in range(6):
            sill = box((wide / 2 - 0.5, -3, 35 * floor + 16), (3.2, 6, 11))
            mesh += moved(sill, turn=tau * (i + floor / 2) / 6 + 0.5)
    return mesh


def cross(a: Point, b: Point) -> Point:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def unit(a: Point) -> Point:
    length = sqrt(a[0] ** 2 + a[1] ** 2 + a[2] ** 2) or 1.0
    return (a[0] / length, a[1] / length, a[2] / length)


def normal(triangle: Triangle) -> Point:
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = triangle
    return unit(cross((bx - ax, by - ay, bz - az), (cx - ax, cy - ay, cz - az)))


def stl(mesh: Mesh, title: str) -> bytes:
    """Binary STL: 80 bytes of title, a count, 50 bytes for each triangle."""
    facet = struct.Struct("<12fH").pack
    facets = b"".join(facet(*normal(t), *t[0], *t[1], *t[2], 0) for t in mesh)
    return title.encode("ascii", "replace")[:80].ljust(80) + struct.pack("<I", len(mesh)) + facets


def three_mf(mesh: Mesh, title: str, picture: bytes) -> bytes:
    """The 3MF core: one object, its picture as the thumbnail (the standard's own place for it)."""
    index: dict[Point, int] = {}
    faces = []
    for triangle in mesh:
        a, b, c = (
            index.setdefault((round(x, 4), round(y, 4), round(z, 4)), len(index)) for x, y, z in triangle
        )
        if len({a, b, c}) == 3:
            faces.append(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>')
    vertices = "".join(f'<vertex x="{x:g}" y="{y:g}" z="{z:g}"/>' for x, y, z in index)
    model = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<model unit="millimeter" xml:lang="en" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02">'
        f'<metadata name="Title">{title}</metadata><resources><object id="1" type="model"><mesh>'
        f"<vertices>{vertices}</vertices><triangles>{''.join(faces)}</triangles>"
        '</mesh></object></resources><build><item objectid="1"/></build></model>'
    )
    kinds = {"rels": "application/vnd.openxmlformats-package.relationships+xml", "png": "image/png"}
    kinds["model"] = "application/vnd.ms-package.3dmanufacturing-3dmodel+xml"
    package = "http://schemas.openxmlformats.org/package/2006"
    links = {
        "/3D/3dmodel.model": "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel",
        "/Metadata/thumbnail.png": f"{package}/relationships/metadata/thumbnail",
    }
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return zipped(
        {
            "[Content_Types].xml": f'{head}<Types xmlns="{package}/content-types">'
            + "".join(f'<Default Extension="{end}" ContentType="{kind}"/>' for end, kind in kinds.items())
            + "</Types>",
            "_rels/.rels": f'{head}<Relationships xmlns="{package}/relationships">'
            + "".join(
                f'<Relationship Id="rel{n}" Target="{target}" Type="{kind}"/>'
                for n, (target, kind) in enumerate(links.items())
            )
            + "</Relationships>",
            "3D/3dmodel.model": model,
            "Metadata/thumbnail.png": picture,
        }
    )


def zipped(files: dict[str, str | bytes]) -> bytes:
    """A ZIP that is the same bytes every time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()

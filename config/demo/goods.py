"""What Ana gives: bundles of models computed here, each with a picture of the very files it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

from config.demo.pictures import Colour, jpeg, pdf, picture, png
from config.demo.shapes import box, gear, knot, moon, moved, stl, three_mf, tower, vase, zipped

BONE: Colour = (236, 228, 212)
BRASS: Colour = (214, 170, 96)
CLAY: Colour = (205, 120, 88)
SAGE: Colour = (150, 172, 140)
SLATE: Colour = (120, 140, 165)
INK: Colour = (92, 98, 116)

LICENCE = (
    "For your own table and shelf: print as many as you like, change what you like, and say who made it. "
    "The files themselves are not to be passed on or sold. Merchants may sell prints while they are members."
)


@dataclass(frozen=True)
class Goods:
    """One bundle to be: `make` computes its files and its picture when they are wanted."""

    title: str
    description: str
    make: Callable[[], tuple[dict[str, bytes], bytes]]


def gears() -> tuple[dict[str, bytes], bytes]:
    train = [
        (moved(gear(24)), BRASS),
        (moved(gear(12), 54, turn=pi / 12), BONE),
        (moved(gear(16), -42.4, 42.4, turn=0.05), CLAY),
    ]
    files = {
        f"gears/gear-{teeth}.stl": stl(gear(teeth), f"gear, {teeth} teeth") for teeth in (12, 16, 20, 24, 32)
    }
    image = picture(train, ground=(226, 219, 205), tilt=42)
    files["plate/gear-train.3mf"] = three_mf(
        [triangle for mesh, _ in train for triangle in mesh], "Gear train", png(image.resize((256, 192)))
    )
    files["how-to-print.pdf"] = pdf(
        "Clockwork Gears",
        [
            (
                "How to print the gears",
                [
                    "Every gear has a module of 3 mm, so any two of them mesh. Put their axles as far apart as half the "
                    "sum of their teeth, times three: 24 and 12 teeth stand 54 mm apart.",
                    "Layers of 0.2 mm, three walls, 20 % gyroid. No supports. If they run tight, scale the bore alone.",
                    "The bores are 8 mm wide. A piece of dowel makes a good axle, a drop of candle wax a good bearing.",
                ],
            )
        ],
    )
    return files, jpeg(image)


def dice_tower() -> tuple[dict[str, bytes], bytes]:
    dice = [
        (moved(box((-5, -5, 0), (10, 10, 10)), x, y, turn=turn), CLAY)
        for x, y, turn in ((62, -34, 0.4), (80, -8, 1.1), (58, 38, 0.2))
    ]
    image = picture([(tower(), BONE), *dice], ground=(196, 205, 198), turn=-62, tilt=24, fill=0.82)
    whole, low = stl(tower(), "dice tower"), stl(tower(floors=2), "dice tower, low")
    files = {
        "dice-tower.stl": whole,
        "dice-tower-low.stl": low,
        "sources.zip": zipped(
            {"README.txt": "Both towers, to take apart.\n", "high.stl": whole, "low.stl": low}
        ),
    }
    return files, jpeg(image)


def vases() -> tuple[dict[str, bytes], bytes]:
    tall, ribbed, small = (
        vase(lobes=6, twist=-0.3, height=150),
        vase(lobes=9, twist=0.4),
        vase(lobes=14, twist=0.15, height=95, belly=28),
    )
    image = picture(
        [(moved(ribbed, -52, 10), CLAY), (tall, BONE), (moved(small, 48, -16), SAGE)],
        ground=(232, 222, 208),
        tilt=16,
        turn=10,
        fill=0.78,
    )
    models = {"tall": tall, "ribbed": ribbed, "small": small}
    return {f"vase-{name}.stl": stl(mesh, f"vase, {name}") for name, mesh in models.items()}, jpeg(image)


def knots() -> tuple[dict[str, bytes], bytes]:
    image = picture([(knot(2, 3), SLATE)], ground=(228, 226, 220), tilt=38)
    files = {
        f"knot-{p}-{q}.stl": stl(knot(p, q), f"torus knot {p}, {q}") for p, q in ((2, 3), (3, 2), (2, 5))
    }
    return files, jpeg(image)


def moon_lamp() -> tuple[dict[str, bytes], bytes]:
    globe = moon()
    image = picture([(globe, BONE)], ground=(58, 66, 84), tilt=14, turn=270, fill=0.68)
    return {
        "moon.stl": stl(globe, "moon lamp"),
        "moon.3mf": three_mf(globe, "Moon lamp", png(image.resize((256, 192)))),
    }, jpeg(image)


def rule_book() -> tuple[dict[str, bytes], bytes]:
    stacks = [
        moved(gear(teeth, module=2, thick=5, bore=2.5), x, y, 5.5 * floor, turn=floor * 0.3)
        for x, y, teeth, floors in ((0, 0, 14, 4), (34, 6, 12, 2), (14, -34, 12, 1))
        for floor in range(floors)
    ]
    image = picture(
        [(mesh, (BRASS, INK, CLAY)[n % 3]) for n, mesh in enumerate(stacks)], ground=(214, 205, 196)
    )
    pages = [
        (
            "The Lantern Keeper",
            [
                "A game of light for two to four keepers, an evening long. You tend the lanterns of a harbour town while "
                "the fog comes in, street by street.",
                "You need the tokens of this bundle, printed once for each keeper, a handful of dice and a table.",
            ],
        ),
        (
            "Setting out",
            [
                "Lay the twelve streets in a ring. Each keeper takes eight tokens of one colour and puts one on the "
                "street before them. The fog begins on the street opposite the youngest.",
                "Whoever lit a real candle last begins.",
            ],
        ),
        (
            "A night",
            [
                "In your turn you light, walk or watch. To light, put a token on a street next to one of yours. To walk, "
                "move one token as far as you like along lit streets. To watch, throw a die for each token in the fog: "
                "on five or six the fog leaves that street.",
                "When every keeper had a turn the fog moves by one street. Tokens it covers are turned over. The night "
                "ends when the fog has gone around once; whoever keeps most lights has won.",
            ],
        ),
    ]
    tokens = {
        f"tokens/token-{n}.stl": stl(gear(12, module=2, thick=5, bore=2 + n / 4), f"token {n}")
        for n in (1, 2)
    }
    return {"the-lantern-keeper.pdf": pdf("The Lantern Keeper", pages), **tokens}, jpeg(image)


GEARS = Goods(
    "Clockwork Gears",
    "Five gears of one module that all mesh, and a plate with a **running train**. No supports, no glue.",
    gears,
)
TOWER = Goods(
    "Castle Dice Tower",
    "A round keep that throws your dice down its own steps. Two heights; the *low* one fits under most shelves.",
    dice_tower,
)
RULES = Goods(
    "The Lantern Keeper",
    "A small game of light and fog: the rule book to read on screen or paper, and its tokens to print.",
    rule_book,
)
VASES = Goods(
    "Twisted Vases",
    "Three vases for one spiral line of plastic each. Dry flowers only, or a glass inside.",
    vases,
)
MOON = Goods(
    "Moon Lamp",
    "A moon with seas and craters, open below for a small light. Print it slowly, in white.",
    moon_lamp,
)
KNOTS = Goods(
    "Endless Knots",
    "Three torus knots to turn in your hand. They have no beginning, and print without supports.",
    knots,
)

"""The looks of characters, drawn at random from a seed."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

Colour = tuple[int, int, int]
T = TypeVar("T")

SKINS: tuple[Colour, ...] = (
    (255, 224, 196), (244, 204, 168), (232, 184, 140), (214, 162, 116), (186, 130, 88), (152, 100, 66), (118, 76, 50),
    (250, 214, 200),
)  # fmt: skip
HAIRS: dict[str, Colour] = {
    "black": (36, 30, 32), "brown": (92, 58, 34), "chestnut": (134, 74, 40), "blond": (226, 188, 104),
    "red": (190, 82, 34), "grey": (160, 160, 164), "white": (236, 234, 228), "blue": (64, 104, 190),
    "pink": (232, 128, 170), "green": (70, 150, 100),
}  # fmt: skip
FURS: dict[str, Colour] = {
    "brown": (146, 98, 60), "orange": (226, 138, 66), "grey": (150, 152, 158), "white": (238, 234, 226),
    "black": (70, 66, 72), "cream": (236, 208, 160), "blue": (110, 150, 206), "pink": (240, 168, 178),
    "green": (120, 178, 96), "purple": (164, 126, 196),
}  # fmt: skip
CLOTHES: dict[str, Colour] = {
    "red": (204, 58, 58), "blue": (58, 98, 190), "green": (62, 146, 86), "yellow": (236, 196, 72),
    "purple": (128, 78, 164), "orange": (232, 132, 52), "white": (236, 236, 232), "black": (52, 52, 60),
    "turquoise": (58, 172, 176), "pink": (234, 138, 168),
}  # fmt: skip
ANIMALS = ("cat", "dog", "bear", "fox", "rabbit", "pig", "monkey", "frog")
HAIRSTYLES = ("bald", "short", "bangs", "parted", "curly", "spiky", "long", "bob", "bun", "ponytails")
HATS = ("none", "cap", "beanie", "tophat", "bow", "headphones")
BACKGROUNDS = ("plain", "gradient", "hills", "stripes", "circles", "window", "wall")
GARMENTS = ("shirt", "collar", "stripes", "scarf", "hoodie", "tie")


@dataclass(frozen=True, kw_only=True)
class Character:
    """A look. Lengths are shares of the picture's width, colours 8-bit RGB."""

    seed: int
    species: str
    """"person", or one of ANIMALS."""
    skin: Colour
    """Colour of skin or fur."""
    muzzle: Colour
    """Colour around an animal's mouth."""
    hair: str
    """A hairstyle."""
    hair_name: str
    hair_colour: Colour
    hat: str
    hat_name: str
    hat_colour: Colour
    garment: str
    cloth_name: str
    cloth: Colour
    cloth_accent: Colour
    background: str
    backdrop: tuple[Colour, Colour, Colour]
    pattern: tuple[float, ...]
    """Places of the shapes in the background, 0 to 1."""
    iris: Colour
    lips: Colour
    mouth_inside: Colour
    glasses: bool
    beard: bool
    freckles: bool
    lashes: bool

    head_x: float
    head_y: float
    head_width: float
    """Half the width or height."""
    head_height: float
    """Half the width or height."""
    jaw: float
    """0 pointed to 1 square."""
    shoulders: float
    """Half the width of the shoulders."""
    eye_size: float
    eye_gap: float
    """Distance from the middle of the face to the middle of an eye."""
    eye_y: float
    """Height above the middle of the head."""
    eye_shape: float
    """Height of an eye over its width."""
    brow_thickness: float
    brow_tilt: float
    nose_size: float
    nose_style: int
    ear_size: float
    mouth_y: float
    """Depth below the middle of the head."""
    mouth_width: float
    """Half the width at rest."""
    mouth_height: float
    """Height of the widest opening."""
    lip_thickness: float
    smile: float
    """How far the corners stand above the middle of a shut mouth."""
    blush: float
    light: float
    """Where the light comes from: -1 left to 1 right."""
    shade: float
    """Darkest of the face's far side, 0 to 1."""
    warmth: float
    """Tint of the light: -1 bluish to 1 reddish."""

    @property
    def caption(self) -> str:
        """A sentence on the look and what happens, as a prompt."""
        if self.species == "person":
            who = "A bald person" if self.hair == "bald" else f"A person with {self.hair_name} {_STYLE[self.hair]}"
        else:
            who = f"A {self.hair_name} {self.species}"
        hat = "" if self.hat == "none" else f" and a {self.hat_name} {_HAT.get(self.hat, self.hat)}"
        joint = " with" if self.species != "person" or self.hair == "bald" else ""
        who += hat.replace(" and", joint, 1) if joint and hat else hat
        return f"{who} in a {self.cloth_name} {_GARMENT[self.garment]} is talking"


_STYLE = {
    "short": "short hair", "bangs": "bangs", "parted": "parted hair", "curly": "curls", "spiky": "spiky hair",
    "long": "long hair", "bob": "bobbed hair", "bun": "hair in a bun", "ponytails": "ponytails",
}  # fmt: skip
_HAT = {"tophat": "top hat", "headphones": "pair of headphones"}
_GARMENT = {
    "shirt": "shirt", "collar": "shirt with a collar", "stripes": "striped shirt", "scarf": "scarf", "hoodie": "hoodie",
    "tie": "shirt with a tie",
}  # fmt: skip


class _Dice(NamedTuple):
    """Random choices of one generator."""

    rng: np.random.Generator

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def within(self, low: float | int, high: float | int) -> float:
        """A number between two."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """Whether something is so that is so with this probability."""
        return bool(self.rng.random() < share)


def draw_character(seed: int) -> Character:
    """The character of a seed; equal seeds give equal looks."""
    rng = np.random.default_rng((0xC4A2, seed))
    dice = _Dice(rng)
    pick, within, chance = dice.pick, dice.within, dice.chance

    animal = chance(0.4)
    looks: dict[str, Any] = {"species": pick(ANIMALS) if animal else "person"}
    if animal:
        name = pick(tuple(FURS))
        skin = _vary(FURS[name], rng, 12.0)
        looks |= {"hair": "bald", "hair_name": name, "hair_colour": skin}
    else:
        name = pick(tuple(HAIRS))
        a, b, share = pick(SKINS), pick(SKINS), rng.random()
        skin = _vary(mix(a, b, share), rng, 6.0)
        looks |= {"hair": pick(HAIRSTYLES), "hair_name": name, "hair_colour": _vary(HAIRS[name], rng, 10.0)}
    cloth, hat = pick(tuple(CLOTHES)), pick(tuple(CLOTHES))
    light_muzzle = max(skin) > 200
    base = _pastel(rng)
    half_width = within(0.255, 0.315)
    return Character(
        seed=seed,
        **looks,
        skin=skin,
        muzzle=mix(skin, (255, 248, 236), within(0.35, 0.6)) if light_muzzle else mix(skin, (250, 236, 214), 0.6),
        hat=pick(HATS) if chance(0.35) else "none",
        hat_name=hat,
        hat_colour=_vary(CLOTHES[hat], rng, 10.0),
        garment=pick(GARMENTS),
        cloth_name=cloth,
        cloth=_vary(CLOTHES[cloth], rng, 10.0),
        cloth_accent=_vary(CLOTHES[pick(tuple(CLOTHES))], rng, 10.0),
        background=pick(BACKGROUNDS),
        backdrop=(base, _vary(mix(base, _pastel(rng), 0.5), rng, 10.0), _pastel(rng)),
        pattern=tuple(float(v) for v in rng.random(6)),
        iris=pick(((60, 42, 30), (92, 60, 34), (56, 96, 150), (70, 122, 84), (40, 40, 46))),
        lips=mix(mix(skin, (196, 60, 70), within(0.45, 0.75)), (90, 20, 30), within(0.05, 0.3)),
        mouth_inside=_vary((86, 22, 30), rng, 10.0),
        glasses=chance(0.18),
        beard=not animal and chance(0.12),
        freckles=not animal and chance(0.12),
        lashes=chance(0.35),
        **_draw_shape(dice, half_width, animal),
    )


def _draw_shape(dice: _Dice, half: float, animal: bool) -> dict[str, Any]:
    """Where and how large the parts of a face are, and its light; `half` is half the head's width."""
    within, chance = dice.within, dice.chance
    return {
        "head_x": 0.5 + within(-0.035, 0.035),
        "head_y": within(0.45, 0.49),
        "head_width": half,
        "head_height": half * within(1.06, 1.2) if not animal else half * within(0.98, 1.08),
        "jaw": within(0.1, 1.0),
        "shoulders": within(0.36, 0.5),
        "eye_size": within(0.042, 0.062),
        "eye_gap": half * within(0.40, 0.48),
        "eye_y": within(0.06, 0.10),
        "eye_shape": within(0.8, 1.25),
        "brow_thickness": within(0.010, 0.022),
        "brow_tilt": within(-0.25, 0.25),
        "nose_size": within(0.022, 0.04),
        "nose_style": int(dice.rng.integers(3)),
        "ear_size": within(0.05, 0.075),
        "mouth_y": within(0.44, 0.50),
        "mouth_width": within(0.112, 0.142),
        "mouth_height": within(0.15, 0.185),
        "lip_thickness": within(0.014, 0.024),
        "smile": within(-0.006, 0.022),
        "blush": within(0, 0.5) if chance(0.5) else 0.0,
        "light": within(-1, 1),
        "shade": within(0.05, 0.28),
        "warmth": within(-1, 1),
    }


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b, the rest a."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _vary(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    return tuple(int(np.clip(c + d, 0, 255)) for c, d in zip(colour, rng.normal(0, spread, 3), strict=True))  # type: ignore[return-value]


def _pastel(rng: np.random.Generator) -> Colour:
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.12, 0.5), rng.uniform(0.55, 0.98))
    return tuple(round(255 * c) for c in rgb)  # type: ignore[return-value]

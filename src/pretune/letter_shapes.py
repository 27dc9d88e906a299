"""Letters of sequences as shapes that fill a box, in the usual colours of bases and amino acids."""

from __future__ import annotations

__all__ = ["add_letters", "colour_of"]

from collections.abc import Iterable
from functools import cache
from typing import Any

_DNA = {"A": "#109648", "C": "#255c99", "G": "#e09d00", "T": "#d62839"}
_PROTEIN = {
    **dict.fromkeys("GSTYC", "#109648"),  # polar
    **dict.fromkeys("NQ", "#8e44ad"),  # amides
    **dict.fromkeys("KRH", "#255c99"),  # basic
    **dict.fromkeys("DE", "#d62839"),  # acidic
    **dict.fromkeys("AVLIPWFM", "#2b2b2b"),  # hydrophobic
}
_OTHER = "#8a8f98"
_WIDTH = 0.92


def colour_of(letter: str, alphabet: str) -> str:
    """Of a base, or of an amino acid by its chemistry as WebLogo (Crooks et al. 2004) has it; others are grey."""
    return (_DNA if alphabet == "DNA" else _PROTEIN).get(letter, _OTHER)


def add_letters(axes: Any, letters: Iterable[tuple[str, float, float, float]], alphabet: str) -> None:
    """Draws letters that fill their boxes.

    Args:
        axes: Of matplotlib.
        letters: Letter, centre, bottom and height in units of the axes; a negative height hangs from the bottom.
        alphabet: ``DNA`` or ``protein``, for the colours.
    """
    from matplotlib.collections import PathCollection
    from matplotlib.transforms import Affine2D

    shapes, colours = [], []
    for letter, centre, bottom, height in letters:
        # a letter against the target hangs upright below the line
        low, size = (bottom + height, -height) if height < 0 else (bottom, height)
        place = Affine2D().scale(_WIDTH, size).translate(centre - _WIDTH / 2, low)
        shapes.append(_shape(letter).transformed(place))
        colours.append(colour_of(letter, alphabet))
    axes.add_collection(PathCollection(shapes, facecolors=colours, linewidths=0), autolim=False)


@cache
def _shape(letter: str) -> Any:
    """The outline of a letter in the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    outline = TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = outline.get_extents()
    wide = max(box.width, 0.45 if letter == "I" else 1e-3)  # an I is a bar, not a block
    left = box.x0 - (wide - box.width) / 2
    return outline.transformed(Affine2D().translate(-left, -box.y0).scale(1 / wide, 1 / max(box.height, 1e-3)))

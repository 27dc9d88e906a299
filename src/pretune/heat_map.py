"""An explanation by pixels, as data, in the terminal, as a picture and for the page."""

from __future__ import annotations

__all__ = ["AGAINST", "FOR", "HeatMap", "address_of", "tinted", "write_picture"]

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.text import Text

from pretune.explanation import Explanation
from pretune.page_figures import data_address

FOR, AGAINST = (47, 111, 237), (216, 65, 47)
"""Colours of what speaks for a target and against it."""

_INKS = {"good": (90, 100, 114), "unsure": (150, 98, 0), "bad": (196, 30, 20)}
_SHOWN = 224
_TERMINAL = 24
_EXTREME = 99.5
"""Percentile of the magnitudes that is shown at full strength: one pixel must not hide all others."""


@dataclass(frozen=True, kw_only=True)
class HeatMap(Explanation):
    """Which pixels a prediction rests on.

    Attributes:
        image: What the model saw, bytes (height, width, channels).
        scores: One a pixel, (height, width); positive speaks for the target, negative against it.
        patch: Side of the patches that are hidden in the tests of faithfulness.
        name: Where the picture is from.
    """

    kind: ClassVar[str] = "patches"
    drawn: ClassVar[bool] = True

    image: NDArray[np.uint8]
    scores: NDArray[np.float64]
    patch: int
    name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, without the picture itself."""
        facts = {name: getattr(self, name) for name in ("name", "target", "group", "answer", "explainer", "prediction")}
        facts |= {"delta": self.delta, "note": self.note, "patch": self.patch, "scores": self.scores.tolist()}
        return facts | self.tests | self.near

    @property
    def total(self) -> float:
        """Sum of the scores."""
        return float(self.scores.sum())

    @property
    def strengths(self) -> NDArray[np.float64]:
        """Scores divided by (nearly) the largest magnitude, -1 to 1."""
        most = float(np.percentile(np.abs(self.scores), _EXTREME)) or float(np.abs(self.scores).max()) or 1.0
        return np.clip(self.scores / most, -1, 1)

    def picture(self) -> Image.Image:
        """What the model saw."""
        return _enlarged(Image.fromarray(self.image[..., 0] if self.image.shape[2] == 1 else self.image).convert("RGB"))

    def overlay(self) -> Image.Image:
        """The picture in grey, under blue where it speaks for the target and red where against."""
        grey = np.asarray(self.picture().convert("L").convert("RGB"), dtype=np.float64)
        size = (grey.shape[1], grey.shape[0])
        strength = Image.fromarray(self.strengths.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        return Image.fromarray(tinted(0.35 * grey + 0.65 * 255, np.asarray(strength)))

    def panels(self) -> list[Image.Image]:
        """The picture and the overlay."""
        return [self.picture(), self.overlay()]

    def body(self) -> Text:
        """The heat map in half blocks: two pixels a character."""
        height, width = self.scores.shape
        scale = min(1.0, _TERMINAL / max(height, width))
        size = (max(1, round(width * scale)), max(2, round(height * scale / 2) * 2))
        grey = np.asarray(self.picture().convert("L").resize(size, Image.Resampling.BOX), dtype=np.float64)
        strength = Image.fromarray(self.strengths.astype(np.float32)).resize(size, Image.Resampling.BOX)
        colours = tinted(np.repeat(grey[..., None], 3, axis=2), np.asarray(strength))
        text = Text()
        for top, bottom in zip(colours[::2], colours[1::2], strict=True):
            for a, b in zip(top.tolist(), bottom.tolist(), strict=True):
                text.append("▀", style=f"rgb({a[0]},{a[1]},{a[2]}) on rgb({b[0]},{b[1]},{b[2]})")
            text.append("\n")
        text.rstrip()
        return text

    def sources(self) -> list[tuple[str, str]]:
        """Picture and overlay as ``data:`` addresses, with what they show."""
        return [("what the model saw", address_of(self.picture())), ("why", address_of(self.overlay()))]


def tinted(under: NDArray[np.float64], strength: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours of the sign laid over `under`, the stronger the less transparent."""
    share = 0.85 * np.abs(strength)[..., None]
    colour = np.where(strength[..., None] >= 0, np.array(FOR, np.float64), np.array(AGAINST, np.float64))
    return np.clip(under * (1 - share) + colour * share, 0, 255).round().astype(np.uint8)


def _enlarged(image: Image.Image) -> Image.Image:
    """At least 224 pixels high, by whole factors so that small pictures keep their pixels."""
    factor = max(1, _SHOWN // min(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def address_of(image: Image.Image) -> str:
    """The picture as a ``data:`` address, which a page can hold."""
    file = io.BytesIO()
    image.save(file, format="png", optimize=True)
    return data_address(file.getvalue(), "image/png")


def write_picture(explanations: Sequence[Explanation], file: str | Path) -> Path:
    """Writes the panels of each explanation side by side, with its heading and verdict, as a .png."""
    rows = [_row(e) for e in explanations]
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part.png")
    sheet.save(part)
    return part.replace(path)


def _row(explanation: Explanation) -> Image.Image:
    pictures = explanation.panels()
    gap, wide = 12, sum(p.width for p in pictures)
    font = ImageFont.load_default(13)
    lines = [(explanation.heading, (0, 0, 0)), *((v.text, _INKS[v.level]) for v in explanation.verdicts)]
    wrapped = [(part, ink) for line, ink in lines for part in textwrap.wrap(line, max(20, wide // 7))]
    row = Image.new("RGB", (wide + 3 * gap, max(p.height for p in pictures) + 2 * gap + 17 * len(wrapped) + 6), "white")
    draw = ImageDraw.Draw(row)
    for i, (line, ink) in enumerate(wrapped):
        draw.text((gap, gap + 17 * i), line, fill=ink, font=font)
    left = gap
    for picture in pictures:
        row.paste(picture, (left, gap + 17 * len(wrapped) + 6))
        left += picture.width + gap
    return row

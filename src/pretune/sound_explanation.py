"""An explanation by seconds and frequencies of a recording, as data, in the terminal and for the page."""

from __future__ import annotations

__all__ = ["SoundExplanation", "hertz", "wav_address"]

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.text import Text

from pretune import mel
from pretune.audio_reading import wav
from pretune.explanation import Explanation
from pretune.heat_map import address_of, tinted
from pretune.page_figures import data_address
from pretune.sound_plane import MelPlane, band_edges, edges_hz, window_edges

_RANGE = 8.0
"""Of the energies that are shown, in nepers of power: 35 dB below the loudest is the faintest."""

_SHOWN, _NEGLIGIBLE = 5, 0.02
_COLUMNS = 64
_ENVELOPE = 600


@dataclass(frozen=True, kw_only=True)
class SoundExplanation(Explanation):
    """Which seconds and which frequencies a prediction rests on.

    Attributes:
        samples: What the model heard, 16 bits, (samples,).
        rate: Samples a second.
        spectrum: Log energies (nepers of power) of mel bins, (windows, 80): windows of 25 ms, one every 10 ms.
        scores: One for 10 ms and a mel bin, (rows, 80); positive speaks for the target, negative against it.
        start: Seconds at which the first row of `scores` begins.
        name: Where the recording is from.
        span: Start and end in seconds of the word that is explained.
    """

    kind: ClassVar[str] = "sound"
    drawn: ClassVar[bool] = True

    samples: NDArray[np.int16]
    rate: int
    spectrum: NDArray[np.float64]
    scores: NDArray[np.float64]
    start: float = 0.0
    name: str = ""
    span: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form without the sound: ``scores`` has a row for each window of time, a column for each band."""
        facts = {name: getattr(self, name) for name in ("name", "target", "group", "answer", "explainer", "prediction")}
        facts |= {"delta": self.delta, "note": self.note, "rate": self.rate, "seconds": self.seconds}
        facts |= {"span": None if self.span is None else list(self.span)}
        facts |= {"windows": self.windows, "bands": self.bands, "scores": self.cells.tolist()}
        return facts | self.tests | self.near

    # -- what there is -----------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """How long the recording is."""
        return len(self.samples) / self.rate

    @cached_property
    def windows(self) -> list[tuple[float, float]]:
        """Start and end of each window of time, in seconds."""
        rows = window_edges(len(self.scores))
        edges = [min(max(0.0, round(self.start + r * mel.HOP / self.rate, 4)), self.seconds) for r in rows]
        edges[0], edges[-1] = 0.0, self.seconds
        return list(pairwise(edges))

    @cached_property
    def bands(self) -> list[tuple[float, float]]:
        """Lowest and highest frequency of each band, in Hz."""
        edges = [round(f, 1) for f in edges_hz(self.rate)[band_edges()].tolist()]
        return list(pairwise(edges))

    @cached_property
    def cells(self) -> NDArray[np.float64]:
        """Sums of the scores, (windows, bands)."""
        by_time = np.add.reduceat(self.scores, window_edges(len(self.scores))[:-1], axis=0)
        found: NDArray[np.float64] = np.add.reduceat(by_time, band_edges()[:-1], axis=1)
        return found

    @cached_property
    def strengths(self) -> NDArray[np.float64]:
        """Scores of cells divided by the largest magnitude, -1 to 1, (windows, bands)."""
        return _scaled(self.cells)

    @cached_property
    def by_time(self) -> NDArray[np.float64]:
        """Sums over frequencies divided by the largest magnitude, (windows,)."""
        return _scaled(self.cells.sum(1))

    @property
    def total(self) -> float:
        """Sum of the scores."""
        return float(self.scores.sum())

    @property
    def subject(self) -> str:
        """When the word was said."""
        return "" if self.span is None else f" ({self.span[0]:.2f} to {self.span[1]:.2f} s)"

    @property
    def loudness(self) -> NDArray[np.float64]:
        """Energies from 0 (faintest that is shown) to 1 (loudest), (windows, 80)."""
        return np.clip(1 + (self.spectrum - self.spectrum.max()) / _RANGE, 0, 1)

    # -- in the terminal ---------------------------------------------------------------------------------------------

    def body(self) -> Text:
        """A row for each band, high ones on top, each cell as grey as it is loud, under the colour of its score."""
        wide = max(1, min(4, _COLUMNS // len(self.windows)))
        grey = 40 + 150 * _means(self.loudness, len(self.windows))
        colours = tinted(np.repeat(grey[..., None], 3, axis=2), self.strengths)
        text = Text()
        for b in reversed(range(len(self.bands))):
            text.append(f"{hertz(self.bands[b]):>12} ", style="dim")
            for red, green, blue in colours[:, b].tolist():
                text.append(" " * wide, style=f"on rgb({red},{green},{blue})")
            text.append("\n")
        text.append(self._scale(wide * len(self.windows)), style="dim")
        return text

    def _scale(self, wide: int) -> str:
        """Seconds below the cells, and the word that is explained."""
        end = f"{self.seconds:.2f} s"
        line = " " * 13 + "0" + end.rjust(max(len(end) + 1, wide - 1))
        if self.span is None:
            return line
        first, last = (round(s / self.seconds * wide) for s in self.span)
        return " " * (13 + first) + "─" * max(1, last - first) + f" {self.target}\n{line}"

    # -- as pictures and for the page --------------------------------------------------------------------------------

    def picture(self) -> Image.Image:
        """Waveform and spectrogram, and beside them the same under the colours of the scores."""
        from pretune.sound_picture import draw

        return draw(self)

    def panels(self) -> list[Image.Image]:
        """The one picture."""
        return [self.picture()]

    def when(self) -> list[tuple[str, float, float]]:
        """Up to five windows that decided most: name, score, and share of the largest magnitude."""
        sums = self.cells.sum(1)
        order = np.argsort(-np.abs(sums), kind="stable")[:_SHOWN]
        named = [(f"{self.windows[i][0]:.2f}–{self.windows[i][1]:.2f} s", float(sums[i])) for i in order]
        return _bars(named)

    def which(self) -> list[tuple[str, float, float]]:
        """All bands, high ones first: name, score, and share of the largest magnitude."""
        sums = self.cells.sum(0)
        return _bars([(hertz(self.bands[b]), float(sums[b])) for b in reversed(range(len(sums)))], least=0.0)

    def sound(self) -> str:
        """The recording as the ``data:`` address of a .wav file."""
        return wav_address(self.samples, self.rate)

    def backdrop(self) -> str:
        """The spectrogram as a ``data:`` address: black, the more opaque the louder, high frequencies on top."""
        alpha = np.round(255 * self.loudness.T[::-1]).astype(np.uint8)
        return address_of(Image.fromarray(np.stack([np.zeros_like(alpha), alpha], axis=-1), "LA"))

    def tiles(self) -> list[dict[str, Any]]:
        """Cells with a score for the page: places in percent of the picture, sign, opacity and what they say."""
        return [self._tile(w, b) for w in range(len(self.windows)) for b in range(len(self.bands))]

    def _tile(self, w: int, b: int) -> dict[str, Any]:
        (start, end), strength = self.windows[w], float(self.strengths[w, b])
        number = len(self.bands)
        return {
            **self.place(start, end),
            "top": 100 * (number - 1 - b) / number,
            "height": 100 / number,
            "sign": "for" if strength >= 0 else "against",
            "share": round(abs(strength), 3),
            "text": f"{start:.2f}–{end:.2f} s, {hertz(self.bands[b])}: {self.cells[w, b]:+.4f}",
        }

    def place(self, start: float, end: float) -> dict[str, float]:
        """Left edge and width of a stretch of time in percent of the recording."""
        return {"left": round(100 * start / self.seconds, 3), "width": round(100 * (end - start) / self.seconds, 3)}

    @property
    def heard(self) -> dict[str, float]:
        """Where the spectrogram lies, as `place` has it."""
        return self.place(*self.extent)

    @property
    def extent(self) -> tuple[float, float]:
        """Seconds at which the spectrogram begins and ends."""
        first = MelPlane.offset / self.rate
        return first, first + len(self.spectrum) * mel.HOP / self.rate

    def envelope(self) -> list[dict[str, Any]]:
        """The waveform, a stretch for each window: points of its outline in a box of 100 x 200, sign and opacity."""
        peaks = self.peaks()
        at = np.linspace(0, 100, len(peaks))
        found = []
        for (start, end), strength in zip(self.windows, self.by_time.tolist(), strict=True):
            inside = np.flatnonzero((at >= 100 * start / self.seconds - 0.2) & (at <= 100 * end / self.seconds + 0.2))
            outline = [f"{at[i]:.2f},{100 - 95 * peaks[i, 1]:.1f}" for i in inside]
            outline += [f"{at[i]:.2f},{100 - 95 * peaks[i, 0]:.1f}" for i in inside[::-1]]
            sign = "for" if strength >= 0 else "against"
            found.append({"points": " ".join(outline), "sign": sign, "share": round(abs(strength), 3)})
        return found

    def peaks(self) -> NDArray[np.float64]:
        """Lowest and highest sample of short stretches, as shares of the loudest, (stretches, 2)."""
        loudest = max(1, int(np.abs(self.samples.astype(np.int32)).max()))
        parts = np.array_split(self.samples.astype(np.float64) / loudest, min(_ENVELOPE, len(self.samples)))
        return np.array([(p.min(), p.max()) for p in parts])

    def ticks(self) -> list[tuple[str, float]]:
        """Seconds along the time axis: text and place in percent."""
        step = next((s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60) if self.seconds / s <= 8), 600)
        return [(f"{i * step:g}", 100 * i * step / self.seconds) for i in range(int(self.seconds / step) + 1)]

    def pitches(self) -> list[tuple[str, float]]:
        """Frequencies along the other axis: text and place in percent from the top."""
        edges = np.array(edges_hz(self.rate))
        found = [f for f in (250, 500, 1000, 2000, 4000, 8000, 16000) if f < edges[-1]]
        places = np.interp(found, edges, np.linspace(100, 0, len(edges)))
        return [(f"{f / 1000:g} kHz", float(p)) for f, p in zip(found, places, strict=True)]


def hertz(band: tuple[float, float]) -> str:
    """A band in words: ``300–650 Hz``, ``1.1–1.8 kHz``."""
    low, high = band
    if high < 1000:
        return f"{low:.0f}–{high:.0f} Hz"
    return f"{low / 1000:.1f}–{high / 1000:.1f} kHz"


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / (float(np.abs(values).max()) or 1.0)


def _bars(named: list[tuple[str, float]], least: float = _NEGLIGIBLE) -> list[tuple[str, float, float]]:
    most = max((abs(score) for _, score in named), default=0.0) or 1.0
    return [(name, score, abs(score) / most) for name, score in named if abs(score) >= least * most]


def _means(loudness: NDArray[np.float64], windows: int) -> NDArray[np.float64]:
    """Mean loudness of each cell, (windows, bands)."""
    edges = np.linspace(0, len(loudness), windows + 1).astype(int)
    rows = [loudness[min(a, len(loudness) - 1) : max(a + 1, b)].mean(0) for a, b in pairwise(edges)]
    found: NDArray[np.float64] = np.add.reduceat(np.array(rows), band_edges()[:-1], axis=1) / band_edges()[1]
    return found


def wav_address(samples: NDArray[np.int16], rate: int) -> str:
    """16-bit samples (samples,) as the ``data:`` address of a .wav file, which a page can play."""
    return data_address(wav(samples, rate), "audio/wav")

"""What the explanations of one group have in common, for words, letters, pictures and sound."""

from __future__ import annotations

__all__ = ["gathered"]

import heapq
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pretune.heat_map import AGAINST, FOR, HeatMap, address_of
from pretune.overview import Gathered
from pretune.plots import blank, image_of
from pretune.sequence_explanation import SequenceExplanation
from pretune.sound_explanation import SoundExplanation, hertz, wav_address
from pretune.tally import normalised
from pretune.word_explanation import WordExplanation

_SHOWN = 6
_CROP = 4
_COLUMNS = 20
_LISTEN = 0.3


class _Best:
    """The few exhibits of highest share."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Any]] = []
        self._number = 0

    def add(self, share: float, exhibit: Any) -> None:
        self._number += 1
        heapq.heappush(self._heap, (share, -self._number, exhibit))
        if len(self._heap) > _SHOWN:
            heapq.heappop(self._heap)

    def __iter__(self) -> Any:
        return iter([(share, exhibit) for share, _, exhibit in sorted(self._heap, key=lambda h: (-h[0], -h[1]))])


class GatheredWords(Gathered):
    """Words, whatever their case."""

    titles: ClassVar[Sequence[str]] = ("words",)

    def gather(self, explanation: WordExplanation) -> None:
        """Adds the share of each word."""
        shares = normalised(explanation.scores).tolist()
        self.tallies["words"].add(zip((w.casefold() for w in explanation.words), shares, strict=True))


class GatheredSequences(Gathered):
    """Letters (or k-mers), and the motif of the stretches of highest score."""

    titles: ClassVar[Sequence[str]] = ("letters",)

    def __init__(self, name: str, min_records: int) -> None:
        super().__init__(name, min_records)
        self._whole: list[SequenceExplanation] = []

    def gather(self, explanation: SequenceExplanation) -> None:
        """Adds the share of each letter, and keeps letters and scores for the motif."""
        self.tallies["letters"].add(zip(explanation.words, normalised(explanation.scores).tolist(), strict=True))
        light = replace(explanation, target=explanation.group, prediction={}, mutations=None)
        self._whole.append(replace(light, faithfulness=None, shuffled=None, sanity=None))

    def pictures(self) -> list[tuple[str, str]]:
        """The logo, from ten records on."""
        return SequenceExplanation.together(self._whole)

    def details(self) -> dict[str, Any]:
        """``motif``: sites and where they begin."""
        from pretune.motifs import motifs_of

        found = motifs_of(self._whole)
        return {"motif": {"sites": found[0].sites, "starts": found[0].starts} if found else None}


class GatheredPictures(Gathered):
    """The mean picture under the mean heat map, and the regions of highest share."""

    titles: ClassVar[Sequence[str]] = ()

    def __init__(self, name: str, min_records: int) -> None:
        super().__init__(name, min_records)
        self._first: HeatMap | None = None
        self._image, self._scores = np.zeros(()), np.zeros(())
        self._regions = _Best()

    def gather(self, explanation: HeatMap) -> None:
        """Adds picture and shares, and the region that speaks most for the target."""
        shares = normalised(explanation.scores)
        self._first = self._first or explanation
        self._image = self._image + explanation.image
        self._scores = self._scores + shares
        side = max(explanation.patch, min(shares.shape) // _CROP)
        top, left, share = _region(shares, side)
        crop = explanation.image[top : top + side, left : left + side].copy()
        self._regions.add(share, (crop, explanation.name, (top, left, side)))

    @property
    def _mean(self) -> HeatMap | None:
        if self._first is None:
            return None
        number = self.num_explanations
        image = np.round(self._image / number).astype(np.uint8)
        return replace(self._first, image=image, scores=self._scores / number)

    def pictures(self) -> list[tuple[str, str]]:
        """The mean, and crops."""
        mean = self._mean
        found = [] if mean is None else [("mean picture", mean.picture()), ("mean of the heat maps", mean.overlay())]
        for share, (crop, name, _) in self._regions:
            shown = Image.fromarray(crop[..., 0] if crop.shape[2] == 1 else crop).convert("RGB")
            factor = max(1, 112 // min(shown.size))
            size = (shown.width * factor, shown.height * factor)
            place = name.rsplit("/", 1)[-1]
            caption = f"{share:.0%} of the scores" + (f", {place}" if place else "")
            found.append((caption, shown.resize(size, Image.Resampling.NEAREST)))
        return [(caption, address_of(picture)) for caption, picture in found]

    def details(self) -> dict[str, Any]:
        """``mean_scores`` (height, width) and ``regions``."""
        mean = self._mean
        regions = [
            {"image": name, "top": place[0], "left": place[1], "side": place[2], "share": share}
            for share, (_, name, place) in self._regions
        ]
        return {"mean_scores": None if mean is None else mean.scores.tolist(), "regions": regions}


def _region(shares: NDArray[np.float64], side: int) -> tuple[int, int, float]:
    """Top, left and sum of the square of highest sum."""
    sums = np.pad(shares, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(boxes.argmax()), boxes.shape)
    return int(top), int(left), float(boxes[top, left])


class GatheredSounds(Gathered):
    """Frequencies and time (as a share of the recording), together and apart, and stretches to listen to."""

    titles: ClassVar[Sequence[str]] = ("frequencies", "time")

    def __init__(self, name: str, min_records: int) -> None:
        super().__init__(name, min_records)
        self._bands: list[str] = []
        self._plane = np.zeros(())
        self._stretches = _Best()

    def gather(self, explanation: SoundExplanation) -> None:
        """Adds shares by band and tenth of the recording, and the stretch that speaks most for the target."""
        shares = normalised(explanation.cells)
        plane = _spread(explanation.windows, explanation.seconds) @ shares
        self._plane = self._plane + plane
        self._bands = [hertz(b) for b in explanation.bands]
        self.tallies["frequencies"].add(zip(self._bands, shares.sum(0).tolist(), strict=True))
        tenths = plane.sum(1).reshape(10, -1).sum(1).tolist()
        self.tallies["time"].add((f"{10 * i}–{10 * i + 10}%", s) for i, s in enumerate(tenths))
        self._listen(explanation, shares.sum(1))

    def _listen(self, explanation: SoundExplanation, shares: NDArray[np.float64]) -> None:
        best = int(shares.argmax())
        middle = sum(explanation.windows[best]) / 2
        start = max(0.0, middle - _LISTEN / 2)
        first, last = (round(t * explanation.rate) for t in (start, start + _LISTEN))
        samples = explanation.samples[first:last].copy()
        self._stretches.add(float(shares[best]), (samples, explanation.rate, explanation.name, start))

    @property
    def _mean(self) -> NDArray[np.float64]:
        return self._plane / max(1, self.num_explanations)

    def pictures(self) -> list[tuple[str, str]]:
        """Mean shares over time and frequency."""
        return [("mean share, by time and frequency", address_of(self._drawn()))]

    def _drawn(self) -> Image.Image:
        from matplotlib.colors import LinearSegmentedColormap

        figure = blank(figsize=(5.0, 2.6), dpi=150, layout="constrained")
        axes = figure.subplots()
        most = float(np.abs(self._mean).max()) or 1.0
        ends = [tuple(c / 255 for c in colour) for colour in (AGAINST, (255, 255, 255), FOR)]
        colours = LinearSegmentedColormap.from_list("signed", ends)
        axes.imshow(
            self._mean.T, origin="lower", aspect="auto", cmap=colours, vmin=-most, vmax=most,
            extent=(0, 100, -0.5, len(self._bands) - 0.5),
        )  # fmt: skip
        axes.set_yticks(range(len(self._bands)), self._bands, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_xlabel("% of the recording", fontsize=8)
        return image_of(figure)

    def sounds(self) -> list[tuple[str, str]]:
        """Stretches of highest share."""
        return [
            (
                f"{share:.0%} in 0.1 s of {name.rsplit('/', 1)[-1] or 'a recording'}, {start:.2f} s",
                wav_address(wave, rate),
            )
            for share, (wave, rate, name, start) in self._stretches
        ]

    def details(self) -> dict[str, Any]:
        """``bands``, ``mean_shares`` (twentieths of the recording, bands) and ``stretches``."""
        stretches = [{"audio": n, "start": start, "share": share} for share, (_, _, n, start) in self._stretches]
        return {"bands": self._bands, "mean_shares": self._mean.tolist(), "stretches": stretches}


def _spread(windows: Sequence[tuple[float, float]], seconds: float) -> NDArray[np.float64]:
    """Share of each window that lies in each twentieth of the recording, (20, windows); columns sum to 1."""
    edges = np.linspace(0, seconds, _COLUMNS + 1)
    low, high = np.array(windows).T
    inside = np.minimum(high, edges[1:, None]) - np.maximum(low, edges[:-1, None])
    found: NDArray[np.float64] = np.maximum(0, inside) / np.maximum(high - low, 1e-12)
    return found


_KINDS: dict[str, type[Gathered]] = {
    "words": GatheredWords,
    "sequence": GatheredSequences,
    "patches": GatheredPictures,
    "sound": GatheredSounds,
}


def gathered(kind: str, name: str, min_records: int) -> Gathered:
    """What sums up the explanations of one group, for a kind of explanation."""
    return _KINDS[kind](name, min_records)

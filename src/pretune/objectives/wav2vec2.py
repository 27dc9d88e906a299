"""wav2vec 2.0: pick the quantised feature of a hidden frame out of those of other hidden frames."""

from __future__ import annotations

__all__ = ["Wav2Vec2", "negatives", "pick"]

import contextlib
from collections.abc import Iterator, Sequence
from math import log
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.quantizer import GumbelQuantizer, perplexity
from pretune.sound_frames import inside, span_mask
from pretune.waveform_objective import WaveformObjective


class Wav2Vec2(WaveformObjective):
    """Contrastive learning over quantised features (Baevski et al. 2020), with what keeps the codes from collapsing.

    Spans of frames are hidden; the state of a hidden frame must be nearer to the quantised feature of that frame than
    to those of other hidden frames of the recording. Features are what the encoder's first linear layer reads:
    convolutions of the waveform, or the log-mel spectrum itself (``wav2vec2-bert``). Logged: ``contrastive_loss``;
    ``chance_loss``, that of picking at random among codes that differ; ``picking_loss``, the contrastive loss as it
    would be if all differed, which a collapse does not lower; ``accuracy`` over frames that have one that differs;
    ``code_perplexity``, the perplexity of the likeliest codes, summed over groups; ``revived``, codes set anew so far.

    Args:
        num_negatives: Other hidden frames to tell the right one from.
        num_groups: Codebooks, whose codes are put side by side.
        num_codes: Codes in each.
        code_size: Numbers in a quantised vector, over all groups.
        projection_size: Width of the vectors that are compared.
        temperature: Divides the cosine similarities.
        start_temperature: Of the Gumbel choice of a code, at the start of the budget.
        end_temperature: At the end of it.
        diversity_weight: Weight of the loss that wants all codes used.
        feature_weight: Weight of the mean square of the convolutions' output, of each frame as far as it is above 1: a
            penalty on all of it, as fairseq has, shrinks the output to nothing within a short run.
        feature_gradient: Share of the gradient that the convolutions are given.
        spectrum_weight: Weight of the squared error of a linear layer that reads the log-mel spectrum of each frame off
            the convolutions' output. Convolutions that nothing has taught give features that change with the phase of
            the wave, so that no context says anything about the hidden ones; and they cannot collapse beside it.
        perplexity_floor: Share of all codes; while fewer are in use, unused ones are set anew, and training stops with
            a diagnosis if that does not help. At 0 there is neither.
        mask_rate: Share of the frames that is hidden, about.
        mask_seconds: Duration of a hidden span.
    """

    units: ClassVar[str] = "recordings"

    def __init__(
        self,
        *,
        num_negatives: int = 100,
        num_groups: int = 2,
        num_codes: int = 64,
        code_size: int = 128,
        projection_size: int = 128,
        temperature: float = 0.1,
        start_temperature: float = 2.0,
        end_temperature: float = 0.5,
        diversity_weight: float = 0.1,
        feature_weight: float = 0.1,
        feature_gradient: float = 0.1,
        spectrum_weight: float = 1.0,
        perplexity_floor: float = 0.1,
        mask_rate: float = 0.5,
        mask_seconds: float = 0.2,
    ) -> None:
        super().__init__()
        self.num_negatives = check_range("num_negatives", num_negatives, 1, 10_000)
        self.num_groups = check_range("num_groups", num_groups, 1, 64)
        self.num_codes = check_range("num_codes", num_codes, 2, 65_536)
        self.code_size = check_range("code_size", code_size, 1, 65_536)
        self.projection_size = check_range("projection_size", projection_size, 2, 65_536)
        self.temperature = check_range("temperature", temperature, 0.001, 10)
        self.start_temperature = check_range("start_temperature", start_temperature, 0.01, 100)
        self.end_temperature = check_range("end_temperature", end_temperature, 0.01, 100)
        self.diversity_weight = check_range("diversity_weight", diversity_weight, 0, 1e6)
        self.feature_weight = check_range("feature_weight", feature_weight, 0, 1e6)
        self.feature_gradient = check_range("feature_gradient", feature_gradient, 0, 1)
        self.spectrum_weight = check_range("spectrum_weight", spectrum_weight, 0, 1e6)
        self.perplexity_floor = check_range("perplexity_floor", perplexity_floor, 0, 0.9)
        self.mask_rate = check_range("mask_rate", mask_rate, 0.02, 0.95)
        self.mask_seconds = check_range("mask_seconds", mask_seconds, 0.02, 5)
        if code_size % num_groups:
            raise ConfigError(f"code_size must be a multiple of num_groups, {num_groups}, and is {code_size}.")

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Builds the quantiser and both projections.

        Raises:
            ConfigError: An option about convolutions was given for a family that has none.
        """
        super().setup(model, modality)
        if self.modality.spectral:
            self._refuse_convolutional()
        self.span = self.span_of(self.mask_seconds)
        projection: Any = self._projection
        self.quantizer = GumbelQuantizer(
            projection.projection.in_features,
            self.code_size,
            num_groups=self.num_groups,
            num_codes=self.num_codes,
            temperatures=(self.start_temperature, self.end_temperature),
            floor=self.perplexity_floor,
        )
        self.state_head = nn.Linear(self.width, self.projection_size)
        self.code_head = nn.Linear(self.code_size, self.projection_size)
        if self._anchored:
            self.spectrum_head = nn.Linear(projection.projection.in_features, self.frame_size)

    def _refuse_convolutional(self) -> None:
        for name in ("feature_weight", "feature_gradient", "spectrum_weight"):
            if getattr(self, name) != self.default(name):
                raise ConfigError(f"{name} has no effect on a family that reads spectra; leave it out.")

    @property
    def _anchored(self) -> bool:
        """Whether spectra are read off the convolutions' output."""
        return self.spectrum_weight > 0 and not self.modality.spectral

    @property
    def _projection(self) -> Any:
        model: Any = self.model
        return model.feature_projection

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """The encoder's inputs, the ``mask`` (batch, frames), and ``negatives``, see `negatives`."""
        batch = super().collate(examples, rng)
        batch = self.with_mels(batch, examples) if self._anchored else batch
        mask = span_mask(batch["num_frames"].tolist(), rng, rate=self.mask_rate, span=self.span)
        drawn = negatives(mask.sum(1), self.num_negatives, rng)
        return batch | {"mask": torch.from_numpy(mask), "negatives": torch.from_numpy(drawn)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Hidden frames that have others to be told from, and all frames; the diversity of parts is not that of all."""
        hidden = batch["mask"].sum(1)
        return {"hidden": float(hidden[hidden > 1].sum()), "frames": float(batch["num_frames"].sum())}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Contrastive and diversity loss over hidden frames, and the penalty on features."""
        mask, kept = batch["mask"], self.scale.get("hidden", 1.0)
        with self._watched_convolutions() as found:
            states = self.encode(batch, mask).last_hidden_state[mask]
        raw = self._weakened(found[0]).transpose(1, 2) if found else batch["input_features"]
        quantised = self.quantizer(self._normalised(raw[mask]))
        contrast, chance, accuracy = self._contrast(states, quantised.vectors, quantised.codes, batch)
        number = self.num_groups * self.num_codes
        diversity = 1 - perplexity(quantised.shares) / number
        loss = (contrast + self.diversity_weight * diversity) * kept
        logs = {"contrastive_loss": contrast, "chance_loss": chance, "accuracy": accuracy, "diversity_loss": diversity}
        if found and self.feature_weight > 0:
            squares = raw[inside(batch["num_frames"], raw.shape[1])].float().square().mean(-1)
            penalty = F.relu(squares - 1).mean()
            loss = loss + self.feature_weight * penalty * self.scale.get("frames", 1.0)
            logs["feature_square"] = squares.mean()
        if self._anchored:
            logs["spectrum_loss"] = self._spectrum_loss(found[0].transpose(1, 2), batch)
            loss = loss + self.spectrum_weight * logs["spectrum_loss"] * self.scale.get("frames", 1.0)
        logs["picking_loss"] = contrast - chance + log(self.num_negatives + 1)
        logs |= {"code_perplexity": perplexity(quantised.use), "revived": self.quantizer.revived.float()}
        return {"loss": loss, **{k: v.detach() for k, v in logs.items()}}

    def _spectrum_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Mean squared error over all frames and bins, in units of the variance of each bin."""
        kept = inside(batch["num_frames"], features.shape[1])
        found = self.spectrum_head(self._normalised(features)[kept]).float()
        return F.mse_loss(found, batch["mels"][kept])

    @contextlib.contextmanager
    def _watched_convolutions(self) -> Iterator[list[Tensor]]:
        """Inside, collects the convolutions' output (batch, channels, frames) and weakens the gradient to it."""
        found: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Any) -> Tensor:
            found.append(output)
            return self._weakened(output)

        model: Any = self.model
        hook = None if self.modality.spectral else model.feature_extractor.register_forward_hook(keep)
        try:
            yield found
        finally:
            if hook is not None:
                hook.remove()

    def _weakened(self, features: Tensor) -> Tensor:
        """The same, with a share of the gradient."""
        found = features.view_as(features)
        if found.requires_grad:
            found.register_hook(lambda gradient: gradient * self.feature_gradient)
        return found

    def _normalised(self, features: Tensor) -> Tensor:
        """As the encoder's first linear layer reads them; some configs of HuBERT have no norm there."""
        norm = getattr(self._projection, "layer_norm", None)
        return features if norm is None else norm(features)

    def _contrast(self, states: Tensor, vectors: Tensor, codes: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """`pick` for the hidden frames of a batch, which are given one after the other."""
        hidden = batch["mask"].sum(1)
        place = inside(hidden, int(hidden.max()))
        spread = (_rows(self.state_head(states), place), _rows(self.code_head(vectors), place), _rows(codes, place))
        return pick(*spread, batch["negatives"][:, : place.shape[1]], place & (hidden > 1)[:, None], self.temperature)

    def after_step(self, progress: float) -> None:
        """Cools the quantiser and watches its codes.

        Raises:
            CollapseError: Few codes stay in use.
        """
        self.quantizer.after_step(progress)

    def floor(self, corpus: Corpus) -> Floor:
        """The loss of picking at random; a collapse, where nothing differs, counts as that."""
        return Floor(log(self.num_negatives + 1), "picking at random", "picking_loss")


def negatives(hidden: NDArray[np.int64], number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws for every hidden frame others of the same recording, uniformly and with replacement.

    Args:
        hidden: Hidden frames of each recording, (batch,).
        number: How many for each frame.
        rng: Draws everything.

    Returns:
        Places among the hidden frames of the recording, (batch, most hidden, number); a recording with fewer hidden
        frames has entries without meaning behind them, and so has one with a single hidden frame.
    """
    most = int(hidden.max())
    drawn = rng.integers(0, np.maximum(1, hidden - 1)[:, None, None], (len(hidden), most, number))
    return drawn + (drawn >= np.arange(most)[:, None])


def pick(
    states: Tensor, vectors: Tensor, codes: Tensor, others: Tensor, counted: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """InfoNCE of hidden frames against quantised ones by cosine; others with the same codes are left out.

    Args:
        states: Projected states, (batch, hidden, width).
        vectors: Projected quantised features, (batch, hidden, width).
        codes: Their codes, (batch, hidden, groups).
        others: Places of the negatives, (batch, hidden, negatives), as `negatives` draws them.
        counted: Frames that count, (batch, hidden).
        temperature: Divides the cosines.

    Returns:
        The mean loss; that of picking at random; the accuracy over frames that have another to be told from.
    """
    others = others.clamp(max=states.shape[1] - 1)  # places without meaning may lie one behind the end
    cosines = F.normalize(states.float(), dim=-1) @ F.normalize(vectors.float(), dim=-1).transpose(1, 2)
    right = cosines.diagonal(dim1=1, dim2=2)[..., None]
    equal = (codes[:, :, None] == codes[:, None]).all(-1).gather(2, others)
    wrong = cosines.gather(2, others).masked_fill(equal, -torch.inf)
    logits = (torch.cat((right, wrong), dim=-1) / temperature)[counted]
    number = max(1, len(logits))
    loss = -logits.log_softmax(-1)[:, 0].sum() / number
    different = (~equal[counted]).sum(-1)
    chance = (1 + different).log().sum() / number
    best = (logits[:, 0] > logits[:, 1:].amax(-1)) & (different > 0)
    return loss, chance, best.sum() / (different > 0).sum().clamp(min=1)


def _rows(frames: Tensor, place: Tensor) -> Tensor:
    """Hidden frames of all recordings, (frames, ...), as rows (batch, hidden, ...) where `place` is True."""
    rows = frames.new_zeros(*place.shape, *frames.shape[1:])
    rows[place] = frames
    return rows

"""A product quantiser that is trained with Gumbel noise, and watches that its codes stay in use."""

from __future__ import annotations

__all__ = ["GumbelQuantizer", "Quantised", "perplexity"]

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from pretune.errors import CollapseError

_MEMORY = 0.9
"""Decay a step of the average use of each code."""

_EVERY, _PATIENCE = 10, 0.2
"""Steps between two remedies, which need time to show, and share of the budget that they are given."""

_RELIEF = 30
"""Steps in a row without low use that end an episode; codes that are set anew are in use for some steps at least."""

_UNUSED = 0.1
"""A code is unused when its share of the frames is less than this times the share that would be fair."""


@dataclass(frozen=True)
class Quantised:
    """Quantised features.

    Attributes:
        vectors: (frames, size), with gradients to the codes and, in training, through the choice.
        codes: Number of the chosen code of each group, (frames, groups).
        shares: Mean over the frames of the probability of each code, (groups, codes); in eval mode of the choices.
        use: Share of the frames whose likeliest code each one is, (groups, codes).
    """

    vectors: Tensor
    codes: Tensor
    shares: Tensor
    use: Tensor


class GumbelQuantizer(nn.Module):
    """One code of each group, side by side (Baevski et al. 2020), in float32 whatever the precision of the rest.

    Training draws the choice (Jang et al. 2017); evaluation takes the likeliest code. While few codes are in use,
    unused ones are set anew: each gets the direction of a frame that was drawn, and wins its fair share of frames.

    Args:
        width: Numbers in a feature.
        size: Numbers in a quantised vector; a multiple of `num_groups`.
        num_groups: Codebooks.
        num_codes: Codes in each.
        temperatures: Of the choice, at the start and the end of the budget; geometric in between.
        floor: Share of all codes; under this perplexity unused codes are set anew, and in the end training stops.
    """

    temperature: Tensor
    use: Tensor
    num_steps: Tensor
    low_steps: Tensor
    low_since: Tensor
    fine_steps: Tensor
    revived: Tensor

    def __init__(
        self,
        width: int,
        size: int,
        *,
        num_groups: int,
        num_codes: int,
        temperatures: tuple[float, float] = (2.0, 0.5),
        floor: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_groups, self.num_codes, self.temperatures, self.floor = num_groups, num_codes, temperatures, floor
        self.vectors = nn.Parameter(torch.rand(num_groups, num_codes, size // num_groups))
        self.scores = nn.Linear(width, num_groups * num_codes)
        nn.init.normal_(self.scores.weight)
        nn.init.zeros_(self.scores.bias)
        self.register_buffer("temperature", torch.tensor(float(temperatures[0])))
        self.register_buffer("use", torch.zeros(num_groups, num_codes))
        self.register_buffer("low_since", torch.zeros(()))
        for name in ("num_steps", "low_steps", "fine_steps", "revived"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self._seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, features: Tensor) -> Quantised:
        """Quantises features (frames, width); in training it also keeps them for `after_step`."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            logits = self.scores(features).unflatten(-1, (self.num_groups, self.num_codes))
            likeliest = F.one_hot(logits.argmax(-1), self.num_codes).float()
            use = likeliest.mean(0)
            if self.training:
                self._seen.append((features.detach(), use))
                chosen = F.gumbel_softmax(logits, tau=float(self.temperature), hard=True)
                shares = logits.softmax(-1).mean(0)
            else:
                chosen, shares = likeliest, use
            vectors = torch.einsum("ngv,gvd->ngd", chosen, self.vectors).flatten(1)
        return Quantised(vectors, chosen.detach().argmax(-1), shares, use)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Cools the choice, and looks at the use of the codes.

        Args:
            progress: Share of the budget that is spent.

        Raises:
            CollapseError: Few codes have been in use for a fifth of the budget, remedies or not.
        """
        start, end = self.temperatures
        self.temperature.fill_(start * (end / start) ** min(1.0, progress))
        if not self._seen:
            return
        features, uses = (torch.cat(parts) for parts in zip(*((f, u[None]) for f, u in self._seen), strict=True))
        self._seen.clear()
        self.use.lerp_(uses.mean(0), 1 - _MEMORY if self.num_steps > 0 else 1.0)
        self.num_steps += 1
        _share(self.use)
        self._watch(features, progress)

    def _watch(self, features: Tensor, progress: float) -> None:
        """Sets unused codes anew every few steps that use is low, and gives up in the end."""
        if perplexity(self.use) >= self.floor * self.use.numel():
            self.fine_steps += 1
            if self.fine_steps >= _RELIEF:
                self.low_steps.zero_()
            return
        if self.low_steps == 0:
            self.low_since.fill_(progress)
        self.fine_steps.zero_()
        self.low_steps += 1
        if self.low_steps > _RELIEF and progress - self.low_since >= _PATIENCE:
            raise CollapseError(self._diagnosis())
        if self.low_steps % _EVERY == 1:
            self._revive(features)

    def _revive(self, features: Tensor) -> None:
        unused = self.use < _UNUSED / self.num_codes
        groups = unused.nonzero()[:, 0]
        weight = self.scores.weight.view(self.num_groups, self.num_codes, -1)
        length = weight[~unused].norm(dim=-1).median()
        picks = torch.randperm(len(features), device=features.device)
        drawn = features[picks[torch.arange(len(groups), device=picks.device) % len(picks)]]
        rows = F.normalize(drawn - features.mean(0), dim=-1) * length
        best = self.scores(features).unflatten(-1, self.use.shape).amax(-1)
        lead = (best[:, groups] - features @ rows.T).sort(0).values
        weight[unused] = rows
        self.scores.bias.view_as(self.use)[unused] = lead[len(features) // self.num_codes]
        self.revived += len(groups)
        _share(self.scores.weight)
        _share(self.scores.bias)

    def _diagnosis(self) -> str:
        number = self.use.numel()
        return (
            f"The codebook collapsed: in {int(self.low_steps)} of the last steps its perplexity was below "
            f"{self.floor * number:.3g} of {number} codes (now {perplexity(self.use):.3g}), although "
            f"{int(self.revived)} codes were set anew; try a lower --lr, a higher diversity_weight, fewer num_codes, "
            "or --objective masked_audio, which has no codes to learn."
        )


def perplexity(shares: Tensor) -> Tensor:
    """How many codes are in use: the exponential of the entropy of shares (groups, codes), summed over the groups."""
    return (-torch.xlogy(shares, shares).sum(-1)).exp().sum()


def _share(tensor: Tensor) -> None:
    """Gives all processes the first one's values: each has seen other frames."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(tensor, 0)

"""One word for objectives that share an idea but not a line of code between kinds of data."""

from __future__ import annotations

__all__ = ["ByKind"]

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor, Objective


class ByKind(Objective):
    """An objective that is one of several parts, chosen in `setup` by the modality's kind.

    A subclass declares the options of all parts in its ``__init__``, passes `parts` on, and is otherwise empty. Every
    part is built at once, so that a wrong option is found before data is read; only the chosen one is kept. Attributes
    that it does not have are those of the part.

    Args:
        parts: Class of the part for each kind.
        values: The options by name; other entries are ignored, so that a subclass may pass ``locals()``.
    """

    part: Objective

    def __init__(self, parts: Mapping[str, type[Objective]], values: Mapping[str, Any]) -> None:
        super().__init__()
        for name in self.option_names():
            setattr(self, name, values[name])
        given = {n: v for n, v in self.options().items() if v is not None}
        self._parts = {k: c(**{n: given[n] for n in c.option_names() if n in given}) for k, c in parts.items()}

    def check(self, modality: Modality) -> None:
        """Takes the sizes of the part for the modality's kind, and finds options that it does not have.

        Raises:
            ConfigError: One of them is not as it was.
        """
        part = self._parts[modality.kind]
        signature = inspect.signature(type(self).__init__).parameters
        for name, value in self.options().items():
            if name not in part.option_names() and value != signature[name].default:
                listed = ", ".join(part.option_names())
                raise ConfigError(
                    f'{name} of "{self.name}" has no effect on {modality.name} data; its options there: {listed}.'
                )
        self.batch_size, self.betas, self.num_held_out = part.batch_size, part.betas, part.num_held_out
        self.least = part.least

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Keeps the part for the modality's kind, and sets it up."""
        self.check(modality)
        part = self._parts[modality.kind]
        part.setup(model, modality)
        self.part = part

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "part":
                raise
            return getattr(self.part, name)

    def auto_class(self, model_type: str) -> Any:
        """That of the first part that has a say; the bare encoder for all so far."""
        return next(iter(self._parts.values())).auto_class(model_type)

    def learn(self, corpus: Corpus, *, seed: int) -> None:
        """The part's own."""
        self.part.learn(corpus, seed=seed)

    def lengths(self, examples: Sequence[Example]) -> Sequence[int] | None:
        """The part's."""
        return self.part.lengths(examples)

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """The part's view of the corpus."""
        return self.part.examples(corpus, seed=seed)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """The part's batch."""
        return self.part.collate(examples, rng)

    def counts(self, batch: Batch) -> dict[str, float]:
        """The part's numbers of targets."""
        return self.part.counts(batch)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The part's loss."""
        self.part.scale = self.scale
        return self.part(batch)

    def after_step(self, progress: float) -> None:
        """The part's own."""
        self.part.after_step(progress)

    def floor(self, corpus: Corpus) -> Floor | None:
        """The part's reference value."""
        return self.part.floor(corpus)

    def default_lr(self, *, scratch: bool) -> float:
        """The part's learning rate."""
        return self.part.default_lr(scratch=scratch)

    def embeddings(self, examples: Sequence[Example]) -> Tensor | None:
        """The part's vectors."""
        return self.part.embeddings(examples)

    def pictures(self, corpus: Corpus) -> dict[str, Any]:
        """The part's pictures."""
        return self.part.pictures(corpus)

    def export(self) -> PreTrainedModel:
        """The part's model."""
        return self.part.export()

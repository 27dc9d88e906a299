"""What an objective must define: a module whose forward returns ``{"loss": ...}``, without labels."""

from __future__ import annotations

__all__ = ["Floor", "Objective", "require_kind"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune import encoder, registry
from pretune.errors import ConfigError
from pretune.method import Method
from pretune.modalities.base import Batch, Corpus, Example, Modality

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Floor:
    """A reference value for a loss: what something that has hardly learnt reaches; printed beside it.

    Attributes:
        value: The loss.
        what: Who reaches it, e.g. "word frequency alone"; completes "learning more than ...".
        of: The logged value that it is a reference for; ``loss`` where that is not logged.
    """

    value: float
    what: str
    of: str = "loss"

    def seen(self, logs: dict[str, float]) -> float:
        """The logged value to compare with."""
        return logs[self.of if self.of in logs else "loss"]


class Objective(Method, nn.Module):
    """A pre-training objective: owns its heads, teachers and discriminators; `export` gives what survives.

    `fit` calls, in order: `setup` once; `collate` and `forward` each step; `after_step` each step; `export` at the end.
    All randomness of a step comes from the generator given to `collate` and from torch's global generator, which `fit`
    seeds from (seed, step, rank): that is what makes a resumed run bit-identical.
    """

    accepts: ClassVar[frozenset[str]]
    """Modality kinds it works for."""

    least: int = 1
    """Examples that a batch needs: 2 where each is told from the others."""

    units: ClassVar[str] = "stream"
    """What it needs of a corpus: ``stream``, or for tokens ``sentences`` (their borders are kept)."""

    family: ClassVar[str | None] = None
    """The architecture family from scratch when none is named and that of the modality does not fit."""

    batch_size: int = 16
    """Examples in a step unless told otherwise."""

    num_held_out: int = 256
    """Held-out examples that a validation looks at."""

    counted: str = "tokens"
    """The modality's `Modality.counted`; set when it is set up for a run."""

    width_times_lr: float = 0.4
    """Peak learning rate from scratch, unless told otherwise, times the encoder's width."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Of Adam."""

    scale: dict[str, float]
    """Set by `fit` before each forward: weight of this micro-batch's mean for each key of `counts` (1.0 on its own).

    A mean loss over `n` targets multiplied by its scale makes gradient accumulation and DDP equal to one big batch.
    """

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.scale = {}

    def check(self, modality: Modality) -> None:
        """Raises ConfigError for options that make no sense for this modality; called before data is read."""

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the encoder (see `auto_class`) and builds heads. Called once, before any optimiser exists."""
        raise NotImplementedError

    def auto_class(self, model_type: str) -> Any:
        """The transformers Auto class that should build or load the model for this objective."""
        from transformers import AutoModel

        return AutoModel

    def learn(self, corpus: Corpus, *, seed: int) -> None:
        """Learns from the training corpus what targets need (clusters of frames), before any step; repeatable."""

    def lengths(self, examples: Sequence[Example]) -> Sequence[int] | None:
        """Length of each example, for batches of similar length; None where all are equal."""
        return None

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """An indexable view of the corpus, one item an example; nothing is copied."""
        raise NotImplementedError

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Examples to a batch, with all masking noise drawn from `rng`."""
        raise NotImplementedError

    def counts(self, batch: Batch) -> dict[str, float]:
        """Number of targets of each mean in the loss, e.g. ``{"mlm": 190}``; empty: micro-batches weigh the same."""
        return {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The scalar ``loss`` to minimise and whatever else should be logged (detached scalars)."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step; `progress` is the share of the budget spent, 0 to 1 (EMA teachers)."""

    def floor(self, corpus: Corpus) -> Floor | None:
        """The reference value printed beside the loss, from held-out data; computed once, cheap."""
        return None

    def default_lr(self, *, scratch: bool) -> float:
        """Peak learning rate unless told otherwise: inverse to the width, a tenth for weights that know something."""
        return self.width_times_lr * (1.0 if scratch else 0.1) / encoder.width(self.export().config)

    def embeddings(self, examples: Sequence[Example]) -> Tensor | None:
        """The vectors that a classifier of the exported model would read, (examples, width); None: not offered.

        Called on held-out examples at validations, with gradients off, to see whether they collapse.
        """
        return None

    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Pictures of what was learnt, by file name; written to RUN/pictures at the end of pre-training."""
        return {}

    def save(self, folder: Path) -> None:
        """Writes what the model directory needs besides model and modality (the alphabet of transcripts)."""

    def export(self) -> PreTrainedModel:
        """The transformers model to save; `AutoModel.from_pretrained` must load its encoder."""
        raise NotImplementedError


def require_kind(method: Any, modality: Modality, known: Sequence[Any]) -> None:
    """Raises ConfigError, listing the names in `known` that fit, unless `method` accepts the modality's kind."""
    if modality.kind not in method.accepts:
        fit = ", ".join(_word(m) for m in known if modality.kind in m.accepts)
        others = " or ".join(_word(m) for m in registry.classes("modality") if m.kind in method.accepts)
        hint = f" For {method.name} give --modality {others}." if others else ""
        raise ConfigError(
            f'"{method.name}" works on {"/".join(sorted(method.accepts))}, and {modality.name} data is '
            f"{modality.kind}; these fit: {fit}.{hint}"
        )


def _word(method: Any) -> str:
    return str(method.__module__).rpartition(".")[2]

"""What an explainer must define: (task, batch, target) -> one score an input element."""

from __future__ import annotations

__all__ = ["Explainer"]

from typing import Any, ClassVar

from torch import Tensor

from pretune.method import Method
from pretune.modalities.base import Batch
from pretune.tasks.base import Task


class Explainer(Method):
    """Scores every input element (token, pixel, mel bin) by its share in the target."""

    accepts: ClassVar[frozenset[str]] = frozenset({"tokens", "pixels", "waveform"})
    """Modality kinds it works for."""

    def check(self, task: Task) -> None:
        """Raises ConfigError where the kind of the modality fits, but this task does not."""

    def details(self) -> dict[str, Any]:
        """What the latest explanation has beside scores: fields of the explanation by name."""
        return {}

    def scores(self, task: Task, batch: Batch, *, of: Any = None) -> Tensor:
        """Attribution of each input element.

        Args:
            task: The restored task, in eval mode.
            batch: A batch of **one** record, as `Task.collate` gives it (no labels needed).
            of: What `Task.target` takes: a class index, an entity span ...; None is the predicted one.

        Returns:
            Shape (tokens,) for text, (height, width) for pixels, (rows of 10 ms, 80 mel bins) for sound, whether the
            model reads spectra or waveforms (`pretune.sound_plane`); sign: positive supports the target.
        """
        raise NotImplementedError

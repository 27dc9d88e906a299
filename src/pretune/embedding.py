"""One vector a record, from the encoder of any run: what neighbours, strangeness and diversity stand on."""

from __future__ import annotations

__all__ = ["Embedder", "content", "model_fingerprint", "read_recipe", "unit"]

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from pretune import encoder, features, machine, registry
from pretune.errors import DataError, RunError, similar
from pretune.evaluation import buckets, evaluating, to_device
from pretune.modalities.base import Batch, Example, Modality
from pretune.sound_frames import frame_counts, mean_of_frames
from pretune.tasks.base import Task

_FILES = ("*.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json")
"""What decides the vectors of a model directory."""


class Embedder:
    """An encoder and its modality, in eval mode: records to vectors.

    The vector of a text, a sequence or a recording is the mean of the encoder's last states over its own tokens or
    frames, without padding; that of an image is the mean over its patches or cells. Where a prediction averages over
    views of a record (both strands of DNA), so does the vector.

    Args:
        model: A transformers encoder, or a model with a head, whose encoder is taken.
        modality: What turns records into examples; learnt or loaded.
    """

    def __init__(self, model: PreTrainedModel, modality: Modality) -> None:
        self.model: Any = getattr(model, "base_model", model)
        self.modality = modality

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """The encoder of a finished run, of `pretrain` or `finetune`.

        Raises:
            RunError: There is no such run, or it has not finished.
            ModelError: Its weights are missing or damaged.
        """
        path = Path(run)
        modality: Modality = registry.build("modality", read_recipe(path).get("modality", "text"))
        if not (path / "model" / "config.json").is_file():
            raise RunError(f'"{run}" has no finished model (model/config.json); let it end, or run it again.')
        modality.load(str(path / "model"))
        model, _ = encoder.make(AutoModel, path)
        machine.fast_model(model)
        model.to(machine.device())  # type: ignore[arg-type]
        return cls(model, modality)

    @classmethod
    def of(cls, task: Task) -> Self:
        """The encoder of a task's model, which is not copied; what it cuts is not counted as the task's."""
        return cls(task.model, copy.copy(task.modality))

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return encoder.width(self.model.config)

    def process(self, records: Sequence[Mapping[str, Any]]) -> list[Example | DataError]:
        """Examples, or the error of a record that cannot be used."""
        try:
            return list(self.modality.process_many(records))
        except DataError:
            return [self._process_one(record) for record in records]

    def _process_one(self, record: Mapping[str, Any]) -> Example | DataError:
        try:
            return self.modality.process_many([record])[0]
        except DataError as error:
            return error

    def records(self, records: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Vectors of records, shape (records, width).

        Raises:
            DataError: One of them cannot be used.
        """
        return self.examples(self.modality.process_many(records))

    @torch.inference_mode()
    def examples(self, examples: Sequence[Example], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Vectors of processed records, shape (examples, width), in their order; not normalised.

        Args:
            examples: Of the modality.
            batch_size: Most examples in a batch; batches of long ones are smaller.
        """
        found = np.zeros((len(examples), self.width), dtype=np.float32)
        with evaluating(self.model):
            for chosen in buckets([self.modality.length(e) for e in examples], self.most_together(batch_size)):
                views = self.modality.views([examples[i] for i in chosen])
                means = [self._pooled(to_device(self.modality.pad(v), self.model.device)) for v in views]
                found[chosen] = torch.stack(means).mean(0).float().cpu().numpy()
        return found

    def most_together(self, batch_size: int) -> int:
        """Examples in a batch; 1 where convolutions that normalise over time would see the silence that others add."""
        return 1 if getattr(self.model.config, "feat_extract_norm", "") == "group" else batch_size

    def _pooled(self, batch: Batch) -> Tensor:
        states: Tensor = self.model(**features.model_inputs(self.model, batch)).last_hidden_state
        if self.modality.kind == "waveform":
            return mean_of_frames(states, frame_counts(self.model, batch))
        if self.modality.kind == "pixels":
            return states.mean((2, 3)) if states.ndim == 4 else states.mean(1)
        kept = batch["attention_mask"][..., None]
        return (states * kept).sum(1) / kept.sum(1)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (number, width), each of length 1; 0 stays 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return found


def content(example: Example) -> bytes:
    """What tells processed records apart: equal ones have the same inputs, as far as the model reads them."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(example):
        value = np.asarray(example[name])
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.digest()


def read_recipe(path: Path) -> dict[str, Any]:
    """The options of a run.

    Raises:
        RunError: There is no run of that name.
    """
    file = path / "recipe.yaml"
    if not file.is_file():
        what = "has no recipe.yaml" if path.is_dir() else "does not exist"
        raise RunError(f'"{path}" {what}; give a run directory that pretune wrote.{similar(path)}')
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f'"{file}" is not readable YAML ({str(error).partition(chr(10))[0]}).') from error
    if not isinstance(found, dict) or not {"task", "objective"} & found.keys():
        raise RunError(f'"{file}" is not the recipe of a pretune run; give a run directory that pretune wrote.')
    return found


def model_fingerprint(folder: Path) -> str:
    """A hash of all that decides the vectors of a model directory: weights, config, tokenizer or processor."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted({f for pattern in _FILES for f in folder.glob(pattern)}):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    return digest.hexdigest()

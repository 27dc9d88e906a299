"""Models that provably read one planted piece of their input, or nothing at all, for every modality and task."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import planted
import planted_sounds
from pretune import mel, registry
from pretune.modalities.audio import Audio
from pretune.modalities.dna import Dna
from pretune.modalities.image import Image
from pretune.modalities.protein import Protein
from pretune.modalities.text import Text
from pretune.predicting import Predictor
from pretune.sound_plane import band_edges, window_edges
from pretune.tasks.base import Task
from protein_stand_in import hairpin

SIDE, PATCH = 32, 8
CORNER = (8, 16)
CELL = (3, 5)
RATE, SECONDS = 16_000, 0.8
WORD, MOTIF = "superb", "TATAAT"


class Planted(nn.Module):
    """A model with the config of the task's own, whose answer is a function of one number, the evidence.

    Args:
        config: Of the model that it replaces.
        shape: From evidence (batch,) to logits.
        deaf: Whether the answer is the same for every input.
    """

    def __init__(self, config: Any, shape: Callable[[Tensor], Tensor], deaf: bool) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.weight = nn.Parameter(torch.tensor([0.0 if deaf else 1.0]))

    @property
    def device(self) -> torch.device:
        return self.weight.device

    @property
    def base_model(self) -> Planted:
        return self

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def answer(self, evidence: Tensor, **more: Any) -> Any:
        return SimpleNamespace(logits=self.shape(self.weight * evidence), **more)


class ReadsTokens(Planted):
    """Evidence: how well the best place fits a pattern of tokens, less what chance fits of it."""

    def __init__(self, config: Any, shape: Any, deaf: bool, pattern: list[int], vocabulary: int) -> None:
        super().__init__(config, shape, deaf)
        kinds = sorted(set(pattern))
        table = torch.zeros(vocabulary, len(kinds))
        table[kinds, range(len(kinds))] = 1.0
        self.embeddings = nn.Embedding.from_pretrained(table, freeze=False)
        self.kernel = nn.Parameter(torch.stack([table[t] for t in pattern], 1)[None])

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def forward(self, input_ids: Tensor, output_attentions: bool = False) -> Any:
        wide = self.kernel.shape[-1]
        fits = nn.functional.conv1d(self.embeddings(input_ids).mT, self.kernel, padding=(wide - 1))[:, 0, wide - 1 :]
        found = (4 * fits).logsumexp(-1) / 4 - 0.6 * wide
        shares = (4 * fits).softmax(-1)
        return self.answer(found, attentions=(shares[:, None, None].expand(-1, 1, shares.shape[1], -1),))


class ReadsPlace(Planted):
    """Evidence: the sum of what is read at one place; `power` 2 sums energies."""

    power = 1

    def __init__(self, config: Any, shape: Any, deaf: bool, place: Tensor) -> None:
        super().__init__(config, shape, deaf)
        self.place = nn.Parameter(place / place.abs().sum())

    def read(self, values: Tensor) -> Any:
        return self.answer(6 * (values**self.power * self.place).flatten(1).sum(1))


class ReadsPixels(ReadsPlace):
    def forward(self, pixel_values: Tensor) -> Any:
        return self.read(pixel_values)


class ReadsSpectra(ReadsPlace):
    def forward(self, input_features: Tensor) -> Any:
        return self.read(input_features)


class ReadsWaves(ReadsPlace):
    power = 2

    def forward(self, input_values: Tensor) -> Any:
        return self.read(input_values)


# -- from evidence to the logits of a task -----------------------------------------------------------------------------


def _classes(evidence: Tensor) -> Tensor:
    return torch.stack([-evidence, evidence], -1)


def _value(evidence: Tensor) -> Tensor:
    return evidence[:, None]


def _tags(length: int, tags: int, number: int) -> Callable[[Tensor], Tensor]:
    """The same tag for every token, if the evidence is positive."""

    def shape(evidence: Tensor) -> Tensor:
        found = torch.where(torch.arange(tags) == number, evidence[:, None], -evidence[:, None])
        return found[:, None].expand(-1, length, -1)

    return shape


def _pairs(length: int, outputs: int) -> Callable[[Tensor], Tensor]:
    """The first outputs say that two residues touch (for structure: the nearest bins), the others that they do not."""

    def shape(evidence: Tensor) -> Tensor:
        near = torch.arange(outputs) < max(1, outputs // 8)
        return torch.where(near, evidence[:, None], -evidence[:, None])[:, None, None].expand(-1, length, length, -1)

    return shape


def _map(outputs: int, side: int) -> Callable[[Tensor], Tensor]:
    def shape(evidence: Tensor) -> Tensor:
        first = torch.arange(outputs) == 0
        found = torch.where(first, evidence[:, None], -evidence[:, None])
        return found[:, :, None, None].expand(-1, -1, side, side)

    return shape


def _letters(symbols: int, letter: int, frames: int) -> Callable[[Tensor], Tensor]:
    """A letter from frame 10 to 13, the surer the more evidence; silence before and after."""

    def shape(evidence: Tensor) -> Tensor:
        here = torch.zeros(frames, symbols)
        here[10:14, letter] = 1
        blank = torch.zeros(frames, symbols)
        blank[:, 0] = 1
        return 2 * blank + (3 + 4 * evidence[:, None, None]) * here

    return shape


# -- whole tasks -------------------------------------------------------------------------------------------------------


def _task(name: str, modality: Any, config: Any, labels: list[Any], **options: Any) -> Task:
    task: Task = registry.build("task", {"name": name, **options})
    task.check(modality)
    task.modality = modality
    task.learn_labels(labels)
    task.setup_from(config, modality)
    return task


def text(name: str, deaf: bool) -> tuple[Predictor, dict[str, Any], set[int], Any]:
    """A run, a record, its planted pieces, and what to explain."""
    words = ["the", "film", "was", "quite", WORD, "and", "some", "music", "had", "a", "plot"]
    modality = Text(vocab_size=512, max_length=64).learn_from([" ".join([*planted.FILLER, WORD])] * 20)
    labels = {"classification": ["bad", "good"], "regression": [0.0, 1.0], "tagging": [["O", "B-LOC"]]}[name]
    task = _task(name, modality, modality.config("tiny", "bert"), labels)
    pattern = [modality.hf.convert_tokens_to_ids(WORD)]
    names = getattr(task, "labels", [])
    tags = _tags(len(words) + 2, len(names), names.index("B-LOC") if "B-LOC" in names else 0)
    shape = {"classification": _classes, "regression": _value, "tagging": tags}[name]
    task.model = ReadsTokens(task.model.config, shape, deaf, pattern, len(modality.hf))  # type: ignore[assignment]
    record = {"tokens": words} if name == "tagging" else {"text": " ".join(words)}
    return (
        Predictor(task),
        record,
        {4},
        ("LOC", 8, 9) if name == "tagging" else (None if name != "classification" else 1),
    )


def sequence(name: str, deaf: bool, protein: bool = False) -> tuple[Predictor, dict[str, Any], set[int], Any]:
    """As `text`; a motif of six letters is planted in DNA, and in a protein."""
    motif = "WCHWMC" if protein else MOTIF
    filler = ("LAGVSERTIDPKQNFY" if protein else "GGCCGACGCGTCGCAGCGGC") * 3
    letters = filler[:14] + motif + filler[14:34]
    modality: Any = Protein(max_length=64) if protein else Dna(max_length=64)
    modality.learn(None)
    fold = hairpin(len(letters))
    labels = {"tagging": ["EH"], "contacts": [fold], "structure": [fold], "regression": [0.0, 1.0]}.get(
        name, ["a", "b"]
    )
    config = modality.config("tiny", "esm" if protein else "bert")
    task = _task(name, modality, config, labels)
    outputs = int(getattr(task, "num_outputs", 1))
    shapes = {"classification": _classes, "regression": _value, "tagging": _tags(len(letters) + 2, 2, 1)}
    shape = shapes.get(name) or _pairs(len(letters), outputs)
    pattern = modality.hf.convert_tokens_to_ids(list(motif))
    task.model = ReadsTokens(task.model.config, shape, deaf, pattern, len(modality.hf))  # type: ignore[assignment]
    of = {"classification": 1, "tagging": ("H", 2, 4), "contacts": (2, 30), "structure": (2, 30)}.get(name)
    return Predictor(task), {"sequence": letters}, set(range(14, 20)), of


def image(name: str, deaf: bool) -> tuple[Predictor, dict[str, Any], set[int], Any]:
    """As `text`; a bright square of the size of a patch is planted."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    y, x = CORNER
    pixels[y : y + PATCH, x : x + PATCH] = 255
    modality = Image(image_size=SIDE, augmentation="none")
    modality.learn([pixels])
    record = {"image": pixels}
    boxes = [{"label": "a", "box": [x, y, PATCH, PATCH]}, {"label": "b", "box": [0, 0, 8, 8]}]
    labels = {"detection": [boxes], "segmentation": [np.eye(SIDE, dtype=np.uint8)], "regression": [0.0, 1.0]}
    task: Task = registry.build("task", name)
    task.modality = modality
    task.process([record])
    role = {"detection": "objects", "segmentation": "mask"}.get(name)
    given = labels.get(name, ["a", "b"])
    task.learn_labels([task.read_label({role: v}, role) for v in given] if role else given)
    config = modality.config("tiny", "vit")
    config.patch_size = PATCH
    task.setup_from(config, modality)
    outputs = {"detection": 6, "segmentation": 2}.get(name, 0)
    side = task.canvas.height // 4 if outputs else 0  # type: ignore[attr-defined]
    shape: Any = _map(outputs, side) if outputs else {"classification": _classes, "regression": _value}[name]
    height = task.canvas.height if outputs else SIDE  # type: ignore[attr-defined]
    place = torch.zeros(1, 3, height, height)
    factor = height // SIDE
    place[..., factor * y : factor * (y + PATCH), factor * x : factor * (x + PATCH)] = 1.0
    task.model = ReadsPixels(task.model.config, shape, deaf, place)  # type: ignore[assignment]
    number = (y // PATCH) * (SIDE // PATCH) + x // PATCH
    of = {"classification": 1, "detection": "a", "segmentation": 0}.get(name)
    return Predictor(task), record, {number}, of


def sound(name: str, deaf: bool, family: str = "wav2vec2-bert") -> tuple[Predictor, dict[str, Any], set[int], Any]:
    """As `text`; a burst in one cell of time and frequency is planted."""
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, round(SECONDS * RATE))  # loud: a quiet ground would give the burst away to any model
    first = round((CELL[0] + 0.05) * 0.1 * RATE)
    wide = round(0.09 * RATE)
    wave[first : first + wide] += 0.4 * np.hanning(wide) * np.sin(2 * np.pi * 3300 * np.arange(wide) / RATE)
    record = {"audio": {"array": np.round(wave * 2**15).astype(np.int16), "sampling_rate": RATE}}
    modality = Audio(augmentation="none")
    labels: list[Any] = {"regression": [0.0, 1.0], "ctc": ["a b"]}.get(name, ["a", "b"])
    modality.config("tiny", family)  # what the family reads
    task = _task(name, modality, planted_sounds.small_config(family), labels)
    batch = task.collate(task.process([record]))
    if family == "wav2vec2-bert":
        values = batch["input_features"]
        frames = values.shape[1]
        rows = values[0].numel() // mel.BINS
        plane = torch.zeros(rows, mel.BINS)
        edges, bands = window_edges(rows), band_edges()
        plane[edges[CELL[0]] : edges[CELL[0] + 1], bands[CELL[1]] : bands[CELL[1] + 1]] = 1.0
        place, reads = plane.reshape(1, frames, -1), ReadsSpectra
    else:
        place, reads = torch.zeros(1, batch["input_values"].shape[1]), ReadsWaves
        place[:, first : first + wide] = 1.0
    shape: Any = {"classification": _classes, "regression": _value}.get(name)
    if shape is None:
        spelling = task.spelling  # type: ignore[attr-defined]
        (letter,) = spelling.encode("a")
        shape = _letters(len(spelling.symbols), letter, frames)
    task.model = reads(task.model.config, shape, deaf, place)  # type: ignore[assignment]
    of = {"classification": 1, "ctc": "0"}.get(name)
    return Predictor(task), record, {CELL[0] * 8 + CELL[1]}, of

"""The fold of a protein, from its sequence alone: distances between residues, and a chain of C-alpha atoms."""

from __future__ import annotations

__all__ = ["Structure"]

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune import structure_scores
from pretune.contact_maps import pair_distances
from pretune.errors import ConfigError
from pretune.folding import fold
from pretune.modalities.base import Batch, Example
from pretune.pair_task import Contact, PairTask, known_distances, protein_name
from pretune.tasks.base import Prediction

_FIRST, _LAST = 2.0, 22.0
_TOUCH = 8.0
_FAR = 24


class Structure(PairTask):
    """A distogram of C-alpha distances (Senior et al. 2020, "AlphaFold"), and a chain that fits it; see `folding.fold`.

    What to expect: a model of one sequence, without the alignment of its relatives and without large pre-training,
    learns secondary structure and how compact proteins are, and no topology of a fold that it has not seen. Helices
    come out, TM-scores stay below 0.3, which two proteins at random have too; the confidence says so. With a
    large protein language model as encoder there is more to read out.

    The primary metric is ``lddt`` of C-alpha atoms (Mariani et al. 2013), 0 to 1; beside it ``tm_score`` (Zhang and
    Skolnick 2004), ``rmsd`` in Angstrom, and ``distance_mae`` (of pairs that are within 22 Angstrom in truth); means
    over proteins.

    Args:
        width: Channels of a pair.
        num_convolutions: Residual 3 x 3 convolutions over the map.
        num_bins: Bins between 2 and 22 Angstrom.
        steps: Of gradient descent, to fit a chain to the distances.
        crop: Residues of a protein that one training step sees.
    """

    label_columns: ClassVar[Sequence[str]] = ("ca", "structure", "coordinates", "coords", "cb")
    primary: ClassVar[str] = "lddt"
    purpose: ClassVar[str] = "Structure"
    predicting: ClassVar[Sequence[str]] = ("steps",)

    def __init__(
        self, *, width: int = 32, num_convolutions: int = 0, num_bins: int = 40, steps: int = 100, crop: int = 256
    ) -> None:
        super().__init__(head="pairwise", width=width, num_convolutions=num_convolutions, crop=crop)
        if num_bins < 5 or steps < 1:
            raise ConfigError(f"num_bins must be at least 5 and steps at least 1; found {num_bins} and {steps}.")
        self.num_bins, self.steps = num_bins, steps

    @property
    def num_outputs(self) -> int:
        """The bins, and one for what is beyond them."""
        return self.num_bins + 1

    @property
    def edges(self) -> NDArray[np.float64]:
        """Of the bins, in Angstrom, shape (bins + 1,)."""
        return np.linspace(_FIRST, _LAST, self.num_bins + 1)

    def answers(self, coordinates: Tensor) -> Tensor:
        """The bin of each pair, -1 where an atom is missing; shape (..., residues, residues)."""
        distances = known_distances(coordinates)
        inner = torch.linspace(_FIRST, _LAST, self.num_bins + 1, device=distances.device)[1:]
        return torch.bucketize(distances.nan_to_num(), inner).masked_fill(distances.isnan(), -1)

    def remembered(self) -> dict[str, Any]:
        """The number of bins."""
        return {"num_bins": self.num_bins}

    def losses(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Cross-entropy of each pair's bin, shape (pairs,)."""
        return F.cross_entropy(logits, answers, reduction="none")

    def contact_logits(self, logits: Tensor) -> Tensor:
        """Log-odds that two C-alpha atoms are nearer than 8 Angstrom."""
        near = int(np.searchsorted(self.edges, _TOUCH + 1e-6)) - 1
        return logits[..., :near].logsumexp(-1) - logits[..., near:].logsumexp(-1)

    # -- predictions ---------------------------------------------------------------------------------------------------

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """``length``, ``ca`` [x, y, z] of each residue in Angstrom, ``confidence`` of each, 0 to 100, and their mean.

        Of a sequence that was read in windows, ``num_unseen`` says how many pairs no window held.
        """
        return [self._prediction(found.softmax(-1).cpu().double().numpy()) for found in self.maps(logits, batch)]

    def _prediction(self, probabilities: NDArray[np.float64]) -> Prediction:
        found = fold(probabilities, self.edges, steps=self.steps)
        unseen = int(np.isnan(probabilities[..., 0]).sum()) // 2
        return {
            "length": len(probabilities),
            "ca": np.round(found.coordinates, 2).tolist(),
            "confidence": np.round(found.confidence, 1).tolist(),
            "mean_confidence": round(float(found.confidence.mean()), 1),
        } | ({"num_unseen": unseen} if unseen else {})

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """``lddt``, ``tm_score``, ``rmsd`` and ``distance_mae``, means over proteins."""
        return self.rescored(predictions, labels)(range(len(labels)))

    def rescored(
        self, predictions: Sequence[Prediction], labels: Sequence[Any]
    ) -> Callable[[Sequence[int]], dict[str, float]]:
        """Scores each protein once, and takes the mean of each draw."""
        rows = [_scores(p["ca"], true) for p, true in zip(predictions, labels, strict=True)]
        table = {name: np.array([row[name] for row in rows]) for name in rows[0]}

        def means(drawn: Sequence[int]) -> dict[str, float]:
            parts = {name: values[np.asarray(drawn, int)] for name, values in table.items()}
            return {n: float(v[~np.isnan(v)].mean()) for n, v in parts.items() if (~np.isnan(v)).any()}

        return means

    def blind(self, labels: Sequence[Any]) -> tuple[str, list[Prediction]]:
        """One long alpha helix: 100 degrees and 1.5 Angstrom a residue, 2.3 Angstrom from its axis."""
        places = [np.arange(len(label)) for label in labels]
        turns = [(np.radians(100) * n, 1.5 * n) for n in places]
        return "one long helix", [{"ca": np.stack([2.3 * np.cos(a), 2.3 * np.sin(a), z], 1)} for a, z in turns]

    def likeliest(self, prediction: Prediction) -> list[Contact]:
        """Pairs that are distant in the sequence, nearest in the chain first."""
        distances = pair_distances(torch.tensor(prediction["ca"])).numpy()
        i, j = np.triu_indices(len(distances), min(_FAR, len(distances) - 1))
        order = np.argsort(distances[i, j], kind="stable")
        return [(int(a) + 1, int(b) + 1) for a, b in zip(i[order], j[order], strict=True)]

    @contextlib.contextmanager
    def writer(self, folder: Path) -> Iterator[Callable[[Mapping[str, Any], Prediction], None]]:
        """Writes each chain as ``<id>.pdb`` and ``<id>.cif``, C-alpha atoms with the confidence as B-factor."""
        folder.mkdir(parents=True, exist_ok=True)
        taken: set[str] = set()

        def write(record: Mapping[str, Any], prediction: Prediction) -> None:
            atoms = structure_scores.chain(prediction["ca"], record["sequence"], prediction["confidence"])
            structure_scores.write_structure(atoms, folder / protein_name(record, taken))

        yield write


def _scores(predicted: Sequence[Sequence[float]], true: NDArray[np.float32]) -> dict[str, float]:
    one, other = (pair_distances(torch.tensor(np.asarray(x, np.float32))).numpy() for x in (predicted, true))
    near = np.triu(other < _LAST, 2)
    error = float(np.abs(one - other)[near].mean()) if near.any() else np.nan
    return structure_scores.structure_scores(predicted, true) | {"distance_mae": error}

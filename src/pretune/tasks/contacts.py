"""Which residues of a protein touch in its structure, from the sequence alone."""

from __future__ import annotations

__all__ = ["Contacts"]

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pretune.contact_maps import ContactScores, is_contact, ranked_pairs
from pretune.errors import ConfigError
from pretune.evaluation import evaluating, to_device
from pretune.modalities.base import Batch, Example
from pretune.pair_task import Contact, PairTask, known_distances, protein_name
from pretune.tasks.base import Prediction, Reliability


class Contacts(PairTask):
    """Contact prediction: a probability for every pair of residues, learnt with binary cross-entropy.

    The label is the C-beta of each residue (glycine: C-alpha), or its C-alpha; a contact is a pair closer than `cutoff`
    whose residues are `min_separation` or more apart in the sequence; pairs with a missing atom do not count. One pair
    in some fifty touches: the outputs start from that rate (Lin et al. 2017, "Focal Loss"), so that the first steps
    are not spent on learning it; `positive_weight` can weigh contacts higher, at the cost of probabilities that are
    too high.

    The primary metric is ``long_p_l5``: of the L / 5 likeliest pairs that are 24 residues or more apart (L residues),
    the share that touch; mean over proteins. The same for L and L / 2 and for the ranges medium (12 to 23) and short
    (6 to 11), and beside it what a random ranking and one by separation alone reach.

    Args:
        head: ``pairwise`` learns features of two states; ``attention`` weighs attention maps (Rao et al. 2021): one
            number for each attention head, for a good encoder and a handful of structures.
        width: Channels of a pair; for ``pairwise``.
        num_convolutions: Residual 3 x 3 convolutions over the map; for ``pairwise``.
        cutoff: Contacts are closer than this, in Angstrom.
        min_separation: Residues that are closer in the sequence are not asked about.
        positive_weight: Of a contact in the loss, times that of other pairs.
        crop: Residues of a protein that one training step sees.
    """

    label_columns: ClassVar[Sequence[str]] = ("cb", "ca", "structure", "coordinates", "coords")
    primary: ClassVar[str] = "long_p_l5"
    purpose: ClassVar[str] = "Contacts"
    no_target: ClassVar[str] = "No contact was predicted here; name two residues as 12-87."

    def __init__(
        self,
        *,
        head: Literal["pairwise", "attention"] = "pairwise",
        width: int = 32,
        num_convolutions: int = 0,
        cutoff: float = 8.0,
        min_separation: int = 6,
        positive_weight: float = 1.0,
        crop: int = 256,
    ) -> None:
        super().__init__(head=head, width=width, num_convolutions=num_convolutions, crop=crop)
        if head not in ("pairwise", "attention"):
            raise ConfigError(f'head is "pairwise" or "attention", found "{head}".')
        if cutoff <= 0 or positive_weight <= 0 or min_separation < 1:
            raise ConfigError(
                "cutoff and positive_weight must be above 0, and min_separation at least 1; "
                f"found {cutoff}, {positive_weight} and {min_separation}."
            )
        self.cutoff, self.min_separation, self.positive_weight = cutoff, min_separation, positive_weight

    @property
    def num_outputs(self) -> int:
        """One: the log-odds of a contact."""
        return 1

    def answers(self, coordinates: Tensor) -> Tensor:
        """1 for a contact, 0 for none, -1 where a pair does not count; shape (..., residues, residues)."""
        found = is_contact(known_distances(coordinates), cutoff=self.cutoff, min_separation=self.min_separation)
        return found.long()

    def remembered(self) -> dict[str, Any]:
        """What a contact is."""
        return {"cutoff": self.cutoff, "min_separation": self.min_separation}

    def losses(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Binary cross-entropy of each pair, shape (pairs,)."""
        weight = logits.new_tensor(self.positive_weight)
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], answers.to(logits.dtype), pos_weight=weight, reduction="none"
        )

    def contact_logits(self, logits: Tensor) -> Tensor:
        """The only output."""
        return logits[..., 0]

    # -- predictions ---------------------------------------------------------------------------------------------------

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """``length`` and ``contacts``: [i, j, probability], counted from 1, likeliest first.

        There are as many as residues for each range (so that a ranking can be judged; where the true coordinates are
        known, as many that can be judged), and all above 0.5. Of a
        sequence that was read in windows, ``num_unseen`` says how many pairs no window held.
        """
        maps = [found[..., 0].sigmoid().cpu().double().numpy() for found in self.maps(logits, batch)]
        return [self._prediction(m, e.get("coordinates")) for m, e in zip(maps, examples, strict=True)]

    def _prediction(self, probabilities: Any, coordinates: Any = None) -> Prediction:
        known = None if coordinates is None else self.truth(coordinates).numpy() >= 0
        found = ranked_pairs(probabilities, min_separation=self.min_separation, known=known)
        pairs = [list(p) for p in found]
        unseen = int(np.isnan(probabilities).sum()) // 2
        return {"length": len(probabilities), "contacts": pairs} | ({"num_unseen": unseen} if unseen else {})

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """Precision of the likeliest pairs in each range; see `ContactScores`."""
        return self.rescored(predictions, labels)(range(len(labels)))

    def rescored(
        self, predictions: Sequence[Prediction], labels: Sequence[Any]
    ) -> Callable[[Sequence[int]], dict[str, float]]:
        """Scores each protein once, and takes the mean of each draw."""
        found = [p["contacts"] for p in predictions]
        return ContactScores(found, labels, cutoff=self.cutoff, min_separation=self.min_separation).metrics

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Reliability | None:
        """Of pairs that were named and are known."""
        sure, right = [], []
        for prediction, label in zip(predictions, labels, strict=True):
            truth = self.truth(label).numpy()
            named = [(p, truth[i - 1, j - 1]) for i, j, p in prediction["contacts"]]
            sure += [p for p, touch in named if touch >= 0]
            right += [float(touch) for _, touch in named if touch >= 0]
        return "pairs named", sure, right

    def blind(self, labels: Sequence[Any]) -> tuple[str, list[Prediction]]:
        """The pairs that are nearest in the sequence."""
        sizes = [np.arange(len(label)) for label in labels]
        maps = [1 / (1.0 + np.abs(n[:, None] - n)) for n in sizes]
        found = [self._prediction(p, label) for p, label in zip(maps, labels, strict=True)]
        return "naming the pairs that are nearest in the sequence", found

    def mistake(self, prediction: Prediction, label: Any) -> tuple[str, Any] | None:
        """The likeliest pair that does not touch."""
        answers = self.truth(label).numpy()
        pair = next((p for p in self.likeliest(prediction) if answers[p[0] - 1, p[1] - 1] == 0), None)
        return pair and (f"It holds {pair[0]} and {pair[1]} for a contact, which they are not.", pair)

    def likeliest(self, prediction: Prediction) -> list[Contact]:
        """Pairs above 0.5, or the first where there is none."""
        pairs = [(int(i), int(j)) for i, j, p in prediction["contacts"] if p > 0.5]
        return pairs or [(int(i), int(j)) for i, j, _ in prediction["contacts"][:1]]

    def probabilities(self, record: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The whole map of one record, shape (residues, residues); NaN for pairs that no window holds."""
        batch = to_device(self.collate(self.process([record])), self.device)
        with evaluating(self), torch.inference_mode():
            (found,) = self.maps(self(batch)["logits"], batch)
        return found[..., 0].sigmoid().cpu().double().numpy()

    @contextlib.contextmanager
    def writer(self, folder: Path) -> Iterator[Callable[[Mapping[str, Any], Prediction], None]]:
        """Writes the map of each protein as ``<id>.npy`` (residues, residues) and as a picture, ``<id>.png``.

        Predictions hold the likeliest pairs alone, so that the model runs again for each map.
        """
        from pretune.contact_picture import contact_picture

        folder.mkdir(parents=True, exist_ok=True)
        taken: set[str] = set()

        def write(record: Mapping[str, Any], prediction: Prediction) -> None:
            name, found = protein_name(record, taken), self.probabilities(record)
            np.save(folder / f"{name}.npy", found.astype(np.float32))
            contact_picture(found, prediction["contacts"], folder / f"{name}.png")

        yield write

"""`explain`: predictions, their targets, an explainer, pieces of the record, the test against random ones."""

from __future__ import annotations

__all__ = ["Explaining", "Explanation", "explain_records", "write_page"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pretune import registry
from pretune.columns import check_roles
from pretune.data import stream_records
from pretune.errors import ConfigError
from pretune.evaluation import evaluating, predictions, to_device
from pretune.explainers.base import Explainer
from pretune.explanation import Explanation, write_page
from pretune.faithfulness import faithfulness
from pretune.limits import check_numbers
from pretune.modalities.base import Example
from pretune.nearest_examples import NeighbourFinder
from pretune.objectives.base import require_kind
from pretune.perturbing import variant_logits
from pretune.picture_pieces import patches_of
from pretune.pieces import Pieces
from pretune.predicting import Predictor
from pretune.sanity import sanity_check
from pretune.sequence_modality import SequenceModality
from pretune.sequence_pieces import Letters, letters_of
from pretune.sound_pieces import sounds_of
from pretune.sources import Source
from pretune.tasks.base import Prediction, Target, Task
from pretune.words import words_of

_PIECES: dict[str, Callable[..., Pieces]] = {
    "tokens": words_of,
    "pixels": patches_of,
    "waveform": sounds_of,
}
"""What finds the pieces of a record, for each kind of modality; sequences, which are tokens too, have letters."""


def explain_records(
    predictor: Predictor,
    records: Source,
    *,
    explainer: str | dict[str, Any] | Explainer = "integrated_gradients",
    of: Any = None,
    columns: Mapping[str, str] | None = None,
    num_random: int = 20,
    num_targets: int | None = None,
    sanity: int = 2,
    seed: int = 0,
    nearest: int = 0,
) -> list[Explanation]:
    """Explains predictions by the words, pixels, or seconds and frequencies, that they rest on.

    Args:
        predictor: From `pretune.load`.
        records: What `Predictor.predict` takes; keep it few, each takes hundreds of passes of the model.
        explainer: Name, specification or instance.
        of: What to explain instead of the prediction: a class name or index; for entities the number of a
            predicted span, a span, or ``(label, start, end)`` in words. None: the predicted class, every
            predicted entity.
        columns: Column of a role where the usual names do not fit.
        num_random: Random orders that the explanation is compared with; 0 leaves the comparison, and its curves, out.
        num_targets: Most targets (entities, words, boxes) of a record, the first ones; None: all.
        sanity: Models with random weights that the explanation is compared with; 0 leaves this check out.
        seed: Of the random orders and weights.
        nearest: How many of the nearest labelled, and of the nearest pre-training examples, to add.

    Returns:
        One explanation a record; for tagging one for each entity, for speech to text one for each word.

    Raises:
        DataError: A record that cannot be used.
        ConfigError: The modality or method does not fit, or there is no such target.
    """
    explained = Explaining(
        predictor, explainer, of=of, num_random=num_random, num_targets=num_targets, sanity=sanity, seed=seed,
        nearest=nearest,
    )  # fmt: skip
    check_roles(columns, list(predictor.roles))
    with evaluating(predictor.task):
        return [
            e for record, example in _examples(predictor, records, columns or {}) for e in explained(record, example)
        ]


class Explaining:
    """Explains one record after the other in the same way; see `explain_records` for the arguments."""

    def __init__(
        self,
        predictor: Predictor,
        explainer: str | dict[str, Any] | Explainer,
        *,
        of: Any = None,
        num_random: int = 20,
        num_targets: int | None = None,
        sanity: int = 2,
        seed: int = 0,
        nearest: int = 0,
    ) -> None:
        self.task = predictor.task
        modality = self.task.modality
        if modality.kind not in _PIECES:
            raise ConfigError(f"explain works on {' and '.join(_PIECES)}, and {modality.name} data is {modality.kind}.")
        check_numbers({"num_random": num_random, "sanity": sanity, "seed": seed, "nearest": nearest})
        if num_random == 1:
            raise ConfigError(f"num_random must be 0 (no comparison) or at least 2, found {num_random}.")
        self.method: Explainer = registry.build("explainer", explainer)
        self.method.check(self.task)
        require_kind(self.method, modality, registry.classes("explainer"))
        self.of, self.num_random, self.sanity, self.seed = of, num_random, sanity, seed
        self.num_targets = num_targets
        self.finder = NeighbourFinder(predictor, nearest) if nearest else None

    def __call__(self, record: Mapping[str, Any], example: Example) -> list[Explanation]:
        """One explanation for each target of a record; the task is in eval mode."""
        prediction = predictions(self.task, [example])[0]
        targets = self.task.targets(prediction, self.of)[: self.num_targets]
        found = [self._one(record, example, prediction, target) for target in targets]
        near = None if self.finder is None else self.finder(record, prediction)
        return [replace(e, nearest=near) for e in found or [self._nothing(record, example, prediction)]]

    def _one(self, record: Mapping[str, Any], example: Example, prediction: Prediction, target: Target) -> Explanation:
        task, method, of = self.task, self.method, target.of
        pieces = _pieces(task, record, example, target.span)
        batch = to_device(pieces.batch, task.device)
        scores = method.scores(task, batch, of=of)
        logits = variant_logits(task, batch, batch[task.modality.main_input])
        return pieces.explanation(
            scores,
            target=target.name,
            group=target.group or target.name,
            answer=float(task.answer(logits, batch, of=of)[0]),
            explainer=method.spec(),
            prediction=prediction,
            delta=getattr(method, "delta", None),
            **method.details(),
            **self._tests(pieces, pieces.merged(scores), of),
        )

    def _tests(self, pieces: Pieces, scores: Sequence[float], of: Any) -> dict[str, Any]:
        """The comparisons that were asked for: fields of the explanation by name."""
        found: dict[str, Any] = {}
        if self.num_random:
            test = partial(faithfulness, self.task, scores=scores, of=of, num_random=self.num_random, seed=self.seed)
            found["faithfulness"] = test(pieces=pieces)
            if type(pieces) is Letters:
                found["shuffled"] = test(pieces=pieces.shuffled(self.seed))
        if self.sanity:
            found["sanity"] = sanity_check(
                self.task, pieces, scores, self.method, of=of, num_models=self.sanity, seed=self.seed
            )
        return found

    def _nothing(self, record: Mapping[str, Any], example: Example, prediction: Prediction) -> Explanation:
        return _pieces(self.task, record, example).explanation(
            None,
            target="nothing",
            answer=None,
            explainer=self.method.spec(),
            prediction=prediction,
            note=self.task.no_target,
        )


def _examples(
    predictor: Predictor, records: Source, columns: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, Any], Example]]:
    data = predictor.task.source(records)
    for record, error in stream_records(data, roles=predictor.roles, columns=columns, required=predictor.required):
        if error is not None or record is None:
            raise error or ConfigError("A row has neither a record nor an error.")
        yield record, predictor.task.process([record])[0]


def _pieces(task: Task, record: Mapping[str, Any], example: Example, span: tuple[int, int] | None = None) -> Pieces:
    find = letters_of if isinstance(task.modality, SequenceModality) else _PIECES[task.modality.kind]
    return find(task, record, example, span)

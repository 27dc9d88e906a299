"""`explain`: predictions, their targets, an explainer, pieces of the record, the test against random ones."""

from __future__ import annotations

__all__ = ["Explanation", "explain_records", "write_page"]

from collections.abc import Callable, Iterator, Mapping
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
        num_random: Random orders that the explanation is compared with; 0 leaves the comparison out.
        num_targets: Most targets (entities, words, boxes) of a record, the first ones; None: all.
        seed: Of the random orders.
        nearest: How many of the nearest labelled, and of the nearest pre-training examples, to add.

    Returns:
        One explanation a record; for tagging one for each entity, for speech to text one for each word.

    Raises:
        DataError: A record that cannot be used.
        ConfigError: The modality or method does not fit, or there is no such target.
    """
    task = predictor.task
    if task.modality.kind not in _PIECES:
        raise ConfigError(
            f"explain works on {' and '.join(_PIECES)}, and {task.modality.name} data is {task.modality.kind}."
        )
    check_numbers({"num_random": num_random, "seed": seed, "nearest": nearest})
    check_roles(columns, list(predictor.roles))
    if num_random == 1:
        raise ConfigError(f"num_random must be 0 (no comparison) or at least 2, found {num_random}.")
    method: Explainer = registry.build("explainer", explainer)
    method.check(task)
    require_kind(method, task.modality, registry.classes("explainer"))
    finder = NeighbourFinder(predictor, nearest) if nearest else None
    found: list[Explanation] = []
    with evaluating(task):
        for record, example in _examples(predictor, records, columns or {}):
            prediction = predictions(task, [example])[0]
            targets = task.targets(prediction, of)[:num_targets]
            new = [_one(task, method, record, example, prediction, t, num_random, seed) for t in targets]
            new = new or [_nothing(task, method, record, example, prediction)]
            near = None if finder is None else finder(record, prediction)
            found += [replace(e, nearest=near) for e in new]
    return found


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


def _one(
    task: Task,
    method: Explainer,
    record: Mapping[str, Any],
    example: Example,
    prediction: Prediction,
    target: Target,
    num_random: int,
    seed: int,
) -> Explanation:
    pieces = _pieces(task, record, example, target.span)
    batch = to_device(pieces.batch, task.device)
    scores = method.scores(task, batch, of=target.of)
    logits = variant_logits(task, batch, batch[task.modality.main_input])
    test = partial(faithfulness, task, scores=pieces.merged(scores), of=target.of, num_random=num_random, seed=seed)
    further = method.details()
    if num_random and type(pieces) is Letters:
        further |= {"shuffled": test(pieces=pieces.shuffled(seed))}
    return pieces.explanation(
        scores,
        target=target.name,
        answer=float(task.answer(logits, batch, of=target.of)[0]),
        explainer=method.spec(),
        prediction=prediction,
        delta=getattr(method, "delta", None),
        faithfulness=test(pieces=pieces) if num_random else None,
        **further,
    )


def _nothing(
    task: Task, method: Explainer, record: Mapping[str, Any], example: Example, prediction: Prediction
) -> Explanation:
    pieces = _pieces(task, record, example)
    return pieces.explanation(
        None, target="nothing", answer=None, explainer=method.spec(), prediction=prediction, note=task.no_target
    )

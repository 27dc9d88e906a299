"""`explain`: predictions, their targets, an explainer, words, and the test against random explanations."""

from __future__ import annotations

__all__ = ["Explanation", "explain_records", "write_page"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pretune import registry
from pretune.columns import check_roles
from pretune.data import stream_records
from pretune.errors import ConfigError, did_you_mean
from pretune.evaluation import evaluating, predictions, to_device
from pretune.explainers.base import Explainer
from pretune.explanation import Explanation, write_page
from pretune.faithfulness import faithfulness
from pretune.limits import check_numbers
from pretune.modalities.base import Example
from pretune.perturbing import probabilities, variant_logits
from pretune.predicting import Predictor
from pretune.sources import Source
from pretune.tasks.base import Prediction, Task
from pretune.words import Words, words_of


@dataclass(frozen=True)
class _Target:
    """What one explanation is about: its name, what `Task.target` takes, and the words of an entity."""

    name: str
    of: Any
    span: tuple[int, int] | None = None


def explain_records(
    predictor: Predictor,
    records: Source,
    *,
    explainer: str | dict[str, Any] | Explainer = "integrated_gradients",
    of: Any = None,
    columns: Mapping[str, str] | None = None,
    num_random: int = 20,
    seed: int = 0,
) -> list[Explanation]:
    """Explains predictions by the words that they rest on.

    Args:
        predictor: From `pretune.load`.
        records: What `Predictor.predict` takes; keep it few, each takes hundreds of passes of the model.
        explainer: Name, specification or instance.
        of: What to explain instead of the prediction: a class name or index; for entities the number of a
            predicted span, a span, or ``(label, start, end)`` in words. None: the predicted class, every
            predicted entity.
        columns: Column of a role where the usual names do not fit.
        num_random: Random orders that the explanation is compared with; 0 leaves the comparison out.
        seed: Of the random orders.

    Returns:
        One explanation a record; for tagging one for each entity.

    Raises:
        DataError: A record that cannot be used.
        ConfigError: The modality has no words, or there is no such target.
    """
    task = predictor.task
    if task.modality.kind != "tokens":
        raise ConfigError(f"explain works on words so far, and {task.modality.name} data is {task.modality.kind}.")
    check_numbers({"num_random": num_random, "seed": seed})
    check_roles(columns, list(predictor.roles))
    if num_random == 1:
        raise ConfigError(f"num_random must be 0 (no comparison) or at least 2, found {num_random}.")
    method: Explainer = registry.build("explainer", explainer)
    found: list[Explanation] = []
    with evaluating(task):
        for record, example in _examples(predictor, records, columns or {}):
            prediction = predictions(task, [example])[0]
            targets = _targets(prediction, of)
            if not targets:
                found.append(_nothing(task, method, record, example, prediction))
            found += [_one(task, method, record, example, prediction, t, num_random, seed) for t in targets]
    return found


def _examples(
    predictor: Predictor, records: Source, columns: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, Any], Example]]:
    for record, error in stream_records(records, roles=predictor.roles, columns=columns, required=predictor.required):
        if error is not None or record is None:
            raise error or ConfigError("A row has neither a record nor an error.")
        yield record, predictor.task.process([record])[0]


def _targets(prediction: Prediction, of: Any) -> list[_Target]:
    if "spans" in prediction:
        return _entities(prediction, of)
    if "value" in prediction:
        if of is not None:
            raise ConfigError(f"A regression has one value and nothing to choose, found of={of!r}; leave it out.")
        return [_Target("value", None)]
    p: dict[str, float] = prediction["probabilities"]
    names = list(p)
    if of is None:
        of = prediction["label"] if "label" in prediction else max(names, key=lambda n: p[n])
    elif of not in names:
        number = _index(of, len(names))
        if number is None:
            listed = ", ".join(names[:10])
            raise ConfigError(f'There is no label "{of}"; there are: {listed}.{did_you_mean(str(of), names)}')
        of = names[number]
    return [_Target(of, names.index(of))]


def _index(of: Any, size: int) -> int | None:
    text = str(of)
    return int(text) if text.isdecimal() and int(text) < size else None


def _entities(prediction: Prediction, of: Any) -> list[_Target]:
    spans = prediction["spans"]
    if of is not None and not isinstance(of, Mapping | tuple | list):
        number = _index(of, len(spans))
        if number is None:
            raise ConfigError(f"There is no entity {of!r}: {len(spans)} were predicted, counted from 0.")
        spans = [spans[number]]
    elif of is not None:
        given = of if isinstance(of, Mapping) else dict(zip(("label", "start", "end"), of, strict=True))
        if not 0 <= given["start"] < given["end"] <= len(prediction["tags"]):
            raise ConfigError(f"There are {len(prediction['tags'])} words, found the span {of!r}.")
        spans = [given]
    return [_Target(s["label"], (s["label"], s["start"], s["end"]), (s["start"], s["end"])) for s in spans]


def _one(
    task: Task,
    method: Explainer,
    record: Mapping[str, Any],
    example: Example,
    prediction: Prediction,
    target: _Target,
    num_random: int,
    seed: int,
) -> Explanation:
    words = words_of(task, record, example, target.span)
    batch = to_device(words.batch, task.device)
    scores = words.merged(method.scores(task, batch, of=target.of))
    logits = variant_logits(task, batch, batch["input_ids"])
    answer = float(probabilities(task, batch, logits, target.of)[0])
    tested = faithfulness(task, words, scores, of=target.of, num_random=num_random, seed=seed) if num_random else None
    return _explanation(words, scores, target, answer, method, prediction, tested)


def _explanation(
    words: Words,
    scores: list[float],
    target: _Target,
    answer: float | None,
    method: Explainer,
    prediction: Prediction,
    tested: Any = None,
    note: str | None = None,
) -> Explanation:
    span = None if target.span is None else (target.span[0] - words.first, target.span[1] - words.first)
    return Explanation(
        words.texts,
        scores,
        target.name,
        answer,
        method.spec(),
        prediction,
        gaps=words.gaps,
        breaks=words.breaks,
        span=span,
        delta=getattr(method, "delta", None) if note is None else None,
        faithfulness=tested,
        num_unread=words.num_unread,
        note=note,
    )


def _nothing(
    task: Task, method: Explainer, record: Mapping[str, Any], example: Example, prediction: Prediction
) -> Explanation:
    words = words_of(task, record, example)
    note = "No entity was predicted here; name one, (label, start, end) in words, to see what speaks for it."
    scores = [0.0] * len(words.texts)
    return _explanation(words, scores, _Target("no entity", None), None, method, prediction, note=note)

"""What there is to explain in a prediction, or what the user named."""

from __future__ import annotations

__all__ = [
    "class_target",
    "entity_mistake",
    "entity_targets",
    "label_mistake",
    "letter_targets",
    "value_target",
    "word_targets",
]

from collections.abc import Mapping, Sequence
from typing import Any

from pretune.errors import ConfigError, did_you_mean
from pretune.tasks.base import Prediction, Target


def value_target(of: Any) -> Target:
    """The one value of a regression.

    Raises:
        ConfigError: `of` names something.
    """
    if of is not None:
        raise ConfigError(f"A regression has one value and nothing to choose, found of={of!r}; leave it out.")
    return Target("value", None)


def class_target(prediction: Prediction, of: Any) -> Target:
    """The predicted class, or the one that `of` names or numbers.

    Raises:
        ConfigError: There is no such class.
    """
    p: dict[str, float] = prediction["probabilities"]
    names = list(p)
    if of is None:
        of = prediction["label"] if "label" in prediction else max(names, key=lambda n: p[n])
    elif of not in names:
        numbered = any(n.lstrip("-").isdecimal() for n in names)  # then a number is the name of a class, or wrong
        number = None if numbered else _index(of, len(names))
        if number is None:
            listed = ", ".join(names[:10])
            raise ConfigError(f'There is no label "{of}"; there are: {listed}.{did_you_mean(str(of), names)}')
        of = names[number]
    return Target(of, names.index(of))


def _index(of: Any, size: int) -> int | None:
    text = str(of)
    return int(text) if text.isdecimal() and int(text) < size else None


def entity_targets(prediction: Prediction, of: Any) -> list[Target]:
    """Every predicted entity, the one numbered `of`, or the span ``(label, start, end)`` that it gives.

    Raises:
        ConfigError: There is no such entity or span.
    """
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
    return [Target(s["label"], (s["label"], s["start"], s["end"]), (s["start"], s["end"])) for s in spans]


def letter_targets(tags: Sequence[str], of: Any) -> list[Target]:
    """The longest stretch of each tag of a sequence, the letter numbered `of`, or the stretch that `of` gives.

    Args:
        tags: The predicted tag of each letter.
        of: A number from 0; ``(label, start, end)``, a mapping of these, or the three in one text, with commas between.

    Raises:
        ConfigError: There is no such letter or stretch.
    """
    if of is None:
        longest = {tag: max((b - a, -a, b) for t, a, b in _stretches(tags) if t == tag) for tag in sorted(set(tags))}
        spans = [(tag, -start, end) for tag, (_, start, end) in longest.items()]
    elif (number := _index(of, len(tags))) is not None:
        spans = [(tags[number], number, number + 1)]
    else:
        spans = [_stretch(of, len(tags))]
    return [Target(label, (label, start, end), (start, end)) for label, start, end in spans]


def _stretches(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    starts = [i for i, tag in enumerate(tags) if i == 0 or tag != tags[i - 1]]
    return [(tags[a], a, b) for a, b in zip(starts, [*starts[1:], len(tags)], strict=True)]


def _stretch(of: Any, size: int) -> tuple[str, int, int]:
    given = of.split(",") if isinstance(of, str) else of
    given = [given.get(k) for k in ("label", "start", "end")] if isinstance(given, Mapping) else given
    try:
        label, start, end = given
        found = str(label), int(start), int(end)
    except (TypeError, ValueError):
        found = "", 0, 0
    if not 0 <= found[1] < found[2] <= size:
        raise ConfigError(
            f"There are {size} letters, counted from 0, found of={of!r}; give the number of a letter, or "
            "label,start,end of a stretch."
        )
    return found


def word_targets(prediction: Prediction, of: Any) -> list[Target]:
    """Every word of a transcript, or the one numbered `of`.

    Raises:
        ConfigError: There is no such word.
    """
    words = prediction["words"]
    chosen = range(len(words))
    if of is not None:
        number = _index(of, len(words))
        if number is None:
            raise ConfigError(f"There is no word {of!r}: {len(words)} were heard, counted from 0.")
        chosen = range(number, number + 1)
    return [Target(words[i]["word"], words[i], (i, i + 1)) for i in chosen]


def label_mistake(prediction: Prediction, truth: Sequence[str]) -> tuple[str, str] | None:
    """The label that is most surely wrongly there, or wrongly not; see `Task.mistake`."""
    wrong = {n: abs((n in truth) - p) for n, p in prediction["probabilities"].items() if (n in truth) != (p >= 0.5)}
    if not wrong:
        return None
    name = max(wrong, key=wrong.__getitem__)
    return (f"It misses {name}." if name in truth else f"It finds {name}, which the record does not have."), name


def entity_mistake(
    spans: Sequence[Mapping[str, Any]], truth: Sequence[tuple[str, int, int]]
) -> tuple[str, tuple[str, int, int]] | None:
    """The first entity that is none, else the first that was missed; see `Task.mistake`."""
    found = [(s["label"], s["start"], s["end"]) for s in spans]
    for span, entity in zip(spans, found, strict=True):
        if entity not in truth:
            there = [t for t in truth if t[1] < entity[2] and entity[1] < t[2]]
            what = f"part of a {there[0][0]} of {_words(there[0])}" if there else "no entity"
            return f'It takes "{span["text"]}" for {entity[0]}; by the label it is {what}.', entity
    missed = next((t for t in truth if t not in found), None)
    return missed and (f"It misses a {missed[0]} of {_words(missed)}, at word {missed[1] + 1}.", missed)


def _words(entity: tuple[str, int, int]) -> str:
    number = entity[2] - entity[1]
    return "one word" if number == 1 else f"{number} words"

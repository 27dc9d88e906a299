"""The arms of a study: what is compared, each with a name that stays the same when the study goes on."""

from __future__ import annotations

__all__ = ["SCRATCH", "Arm", "arms_of"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pretune import registry
from pretune.classical import Classical
from pretune.encoder import read_config
from pretune.errors import ConfigError
from pretune.method import Method
from pretune.strategies.base import Strategy
from pretune.tuning import check_strategies

SCRATCH, OWN, BASELINE = "scratch", "own", "baseline"


@dataclass(frozen=True)
class Arm:
    """One way to a model.

    Attributes:
        name: In cells, tables and plots.
        kind: ``baseline``, ``scratch``, ``own`` (the pre-training in question) or ``other`` (a further checkpoint).
        title: For people.
        source: The checkpoint whose weights, or whose architecture and tokenizer, are used.
        strategy: The specification of its strategies.
    """

    name: str
    kind: str
    title: str
    source: str | None = None
    strategy: Any = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    def strategies(self) -> list[Strategy]:
        """Fresh strategies."""
        found: list[Strategy] = registry.build_all("strategy", self.strategy)
        return found


def arms_of(
    from_: str, strategies: str | Sequence[Any], also: Sequence[str], classical: Classical | None, *, baseline: bool
) -> list[Arm]:
    """All arms, the controls first.

    Args:
        from_: The pre-training in question.
        strategies: Names with commas, or a list of specifications; the first is that of other checkpoints too.
        also: Further checkpoints, each as ``SOURCE`` or ``NAME=SOURCE``.
        classical: What the modality offers for the task.
        baseline: Whether it is wanted.

    Raises:
        ConfigError: A name that stands for two arms, or a strategy that a study cannot have.
    """
    asked = [s.strip() for s in strategies.split(",")] if isinstance(strategies, str) else list(strategies)
    if not asked or "" in asked:
        raise ConfigError("strategies needs at least one name, e.g. full,l2sp,freeze.")
    specs = [registry.spec(s) for s in asked]
    words = [_word(s) for s in specs]
    if twice := next((w for i, w in enumerate(words) if w in words[:i]), None):
        raise ConfigError(f'strategies names "{twice}" twice; name each once.')
    for spec, word in zip(specs, words, strict=True):
        _check(registry.build_all("strategy", spec), word)
    found = [Arm(BASELINE, BASELINE, classical.title)] if baseline and classical is not None else []
    found.append(Arm(SCRATCH, SCRATCH, "from scratch", from_, "full"))
    found.append(Arm(OWN, OWN, f"own pre-training, {words[0]}", from_, specs[0]))
    for spec, word in zip(specs[1:], words[1:], strict=True):
        found.append(Arm(f"{OWN}+{word}", OWN, f"own pre-training, {word}", from_, spec))
    for name, source in map(_named, also):
        read_config(source)
        found.append(Arm(name, "other", f"{name}, {words[0]}", source, specs[0]))
    return _distinct(found)


def _word(spec: Any) -> str:
    """A strategy with its options, as a part of a name: ``l2sp(alpha=0.1)``."""
    if isinstance(spec, str):
        return spec
    if isinstance(spec, list):
        return "+".join(map(_word, spec))
    options = ",".join(f"{k}={v}" for k, v in spec.items() if k != "name" and v != _default(spec["name"], k))
    return f"{spec['name']}({options})" if options else str(spec["name"])


def _default(name: str, option: str) -> Any:
    cls: type[Method] = registry.find("strategy", name.split("+")[0])
    return cls.default(option) if option in cls.option_names() else None


def _check(strategies: Sequence[Strategy], word: str) -> None:
    check_strategies([s for s in strategies if not s.needs_validation], validation=False)
    for strategy in strategies:
        if strategy.needs_validation or strategy.num_folds:
            raise ConfigError(
                f"A study trains on every label of an arm, and {strategy.name} decides by held-out ones; "
                f"leave {word} out of --strategies."
            )


def _named(text: str) -> tuple[str, str]:
    name, equals, source = text.partition("=")
    return (name, source) if equals else (text.rstrip("/").rpartition("/")[2], text)


def _distinct(arms: list[Arm]) -> list[Arm]:
    names = [a.name for a in arms]
    if twice := next((n for i, n in enumerate(names) if n in names[:i]), None):
        raise ConfigError(f'Two arms of the study are called "{twice}"; give another NAME=SOURCE, or each once.')
    return arms

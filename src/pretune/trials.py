"""Trials of `choose`: what each one tried and scored, kept in files, suggested by Optuna, compared over the folds."""

from __future__ import annotations

__all__ = ["Trial", "Trials", "line", "outcome"]

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from pretune import machine, registry
from pretune.checkpoint import write_text
from pretune.errors import NumericsError
from pretune.intervals import Interval, fold_difference
from pretune.progress import say, show
from pretune.strategies.base import Range

if TYPE_CHECKING:
    import optuna

_RANDOM_TRIALS = 10
"""Finished trials before the sampler uses what they showed (the default of Optuna)."""

_COMPARED_TRIALS = 4
"""Finished trials before one may be stopped early."""

_SURE_FOLDS = 2
"""Folds that every trial gets: one alone is too noisy to stop by."""


@dataclass(frozen=True)
class Trial:
    """One strategy with its options and learning rate, on the folds.

    Attributes:
        number: 0 is the default.
        params: As Optuna knows them: ``strategy``, ``lr_factor``, and ``PART.OPTION`` for each searched option.
        state: ``running``, ``finished``, ``stopped`` (hopeless), ``failed``, or ``unfit`` (never possible here).
        lr: Peak learning rate.
        scores: The primary metric of each fold so far.
        seconds: Time so far.
        reason: Why it failed.
    """

    number: int
    params: dict[str, Any]
    state: str = "running"
    lr: float = 0.0
    scores: tuple[float, ...] = ()
    seconds: float = 0.0
    reason: str = ""

    @property
    def strategy(self) -> str:
        """The name, as ``l2sp+layer_decay``."""
        return str(self.params["strategy"])

    @property
    def score(self) -> float:
        """Mean over the folds so far."""
        return float(np.mean(self.scores))

    def specs(self) -> list[dict[str, Any]]:
        """What makes its strategies."""
        return [{"name": part, **_own(self.params, part)} for part in self.strategy.split("+")]

    def to_dict(self) -> dict[str, Any]:
        """For lineage.json, counted from 1 as people see it."""
        return {**asdict(self), "number": self.number + 1, "score": self.score if self.scores else None}


def _own(params: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {k.partition(".")[2]: v for k, v in params.items() if k.partition(".")[0] == part and "." in k}


class Trials:
    """The trials of a run, one file each, rewritten after every fold.

    Trial `k` is a function of the seed and the trials before it: an interrupted search goes on as it would have.

    Args:
        folder: Where the files are.
        among: Strategies to choose from; the first one is the default.
        lr_range: The learning rate lies between the usual one divided by and multiplied with this.
        seed: Of the suggestions.
    """

    def __init__(self, folder: Path, among: Sequence[str], lr_range: float, seed: int) -> None:
        self.folder, self.lr_range, self.seed = folder, lr_range, seed
        self.among = list(among)
        files = sorted(folder.glob("trial-*.json"))
        self.known = [_read(f) for f in files]

    def keep(self, trial: Trial) -> None:
        """Writes the trial down."""
        self.known[trial.number :] = [trial]
        if machine.is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / f"trial-{trial.number:04d}.json", json.dumps(asdict(trial)))

    def next(self) -> tuple[Trial, optuna.Trial]:
        """The trial to go on with, and Optuna's view of it.

        First every strategy at its defaults, then what a tree-structured Parzen estimator suggests (Bergstra et al.
        2011).
        """
        number = len(self.known) - (1 if self.known and self.known[-1].state == "running" else 0)
        study, fit = _study(self.seed, number), self._fit()
        for earlier in self.known[:number]:
            if earlier.strategy in fit:
                study.add_trial(_frozen(earlier, self._distributions(earlier.strategy, fit)))
        untried = [name for name in fit if name not in {t.strategy for t in self.known[:number]}]
        if untried:
            study.enqueue_trial(self._defaults(untried[0]))
        live = study.ask()
        self._suggest(live, fit)
        known = self.known[number] if number < len(self.known) else Trial(number, dict(live.params))
        for fold, score in enumerate(np.cumsum(known.scores) / np.arange(1, len(known.scores) + 1)):
            live.report(float(score), fold)
        return known, live

    def _fit(self) -> list[str]:
        """The strategies without those that turned out to be impossible here."""
        unfit = {t.strategy for t in self.known if t.state == "unfit"}
        return [name for name in self.among if name not in unfit]

    def _distributions(self, name: str, among: Sequence[str]) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        ranges = {key: _distribution(r) for key, r in _searched(name).items()}
        lr = FloatDistribution(1.0 / self.lr_range, self.lr_range, log=True)
        return {"strategy": CategoricalDistribution(list(among)), "lr_factor": lr, **ranges}

    def _suggest(self, live: optuna.Trial, among: Sequence[str]) -> None:
        name = str(live.suggest_categorical("strategy", list(among)))
        live.suggest_float("lr_factor", 1.0 / self.lr_range, self.lr_range, log=True)
        for key, r in _searched(name).items():
            if isinstance(r.low, int) and isinstance(r.high, int):
                live.suggest_int(key, r.low, r.high, log=r.log)
            else:
                live.suggest_float(key, r.low, r.high, log=r.log)

    def _defaults(self, name: str) -> dict[str, Any]:
        options = {}
        for key in _searched(name):
            part, _, option = key.partition(".")
            options[key] = registry.find("strategy", part).default(option)
        return {"strategy": name, "lr_factor": 1.0, **options}


def _searched(name: str) -> dict[str, Range]:
    """The searched options of a strategy, or of all parts of a joined one, as ``PART.OPTION``."""
    found: dict[str, Range] = {}
    for part in name.split("+"):
        cls: Any = registry.find("strategy", part)
        found |= {f"{part}.{option}": r for option, r in cls.searched.items()}
    return found


def _distribution(r: Range) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(r.low, int) and isinstance(r.high, int):
        return IntDistribution(r.low, r.high, log=r.log)
    return FloatDistribution(r.low, r.high, log=r.log)


def _study(seed: int, number: int) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    drawn = int(np.random.default_rng([seed, number]).integers(2**31))
    return optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=drawn, n_startup_trials=_RANDOM_TRIALS),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_COMPARED_TRIALS, n_warmup_steps=_SURE_FOLDS - 1),
    )


def _frozen(trial: Trial, distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
    """The trial as Optuna stores it; one that failed is as bad as one that was stopped at once."""
    import optuna

    finished = trial.state == "finished"
    means = np.cumsum(trial.scores) / np.arange(1, len(trial.scores) + 1)
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if finished else optuna.trial.TrialState.PRUNED,
        value=trial.score if finished else None,
        params=trial.params,
        distributions=distributions,
        intermediate_values={fold: float(m) for fold, m in enumerate(means)},
    )


def _read(file: Path) -> Trial:
    found = Trial(**json.loads(file.read_text(encoding="utf-8")))
    return replace(found, scores=tuple(found.scores))


def outcome(trials: Sequence[Trial], metric: str) -> tuple[Trial, dict[str, Any]]:
    """The winner, and what lineage.json tells of the search; the same is said to the person.

    Raises:
        NumericsError: No trial was finished.
    """
    finished = [t for t in trials if t.state == "finished"]
    if not finished:
        raise NumericsError(f"No trial could be finished; the first one ended so: {trials[0].reason}")
    winner = max(finished, key=lambda t: (t.score, -t.number))
    gain = _gain(winner, trials[0])
    show(_table(trials, winner, metric))
    say(_verdict(winner, gain, len(trials), metric))
    facts = {
        "metric": metric,
        "winner": winner.number + 1,
        "strategy": winner.specs(),
        "lr": winner.lr,
        "score": winner.score,
        "against_default": gain.to_dict() if gain else None,
        "clearly_better": _clear(gain),
        "options": _options(winner),
        "seconds": round(sum(t.seconds for t in trials), 1),
        "trials": [t.to_dict() for t in trials],
    }
    return winner, facts


def line(trial: Trial, metric: str) -> str:
    """A trial in a line."""
    shown = f"{_described(trial)}, lr {trial.lr:.2g}: " if trial.lr else f"{_described(trial)}: "
    if trial.scores:
        folds = " ".join(f"{s:.3f}" for s in trial.scores)
        shown += f"{metric} {trial.score:.4f} (folds {folds}), {trial.seconds:.0f} s"
    return shown + {"finished": "", "stopped": "; stopped"}.get(trial.state, f" {trial.state}: {trial.reason}")


def _gain(trial: Trial, default: Trial) -> Interval | None:
    """By how much a finished trial is ahead of the default, paired over the folds."""
    both = trial.state == default.state == "finished"
    return fold_difference(trial.scores, default.scores) if both and trial.number != default.number else None


def _clear(gain: Interval | None) -> bool:
    return gain is not None and gain.low > 0


def _verdict(winner: Trial, gain: Interval | None, num: int, metric: str) -> str:
    text = (
        f"chosen: {_described(winner)}, lr {winner.lr:.3g}: {metric} {winner.score:.4f} over {len(winner.scores)} folds"
    )
    if winner.number == 0:
        return f"{text}; no other of {num} trials was better than this default"
    if gain is None:
        return f"{text}; the default could not be trained"
    ahead = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] against the default"
    if _clear(gain):
        return f"{text}, {ahead}; the best of {num} trials looks better than it is: measure it on test data"
    return f"{text}, {ahead}: NOT clearly better than full at its usual rate; being the best of {num} may be chance"


def _described(trial: Trial) -> str:
    """``l2sp (alpha 0.03)``; options at their defaults are left out."""
    options = []
    for spec in trial.specs():
        cls = registry.find("strategy", spec["name"])
        moved = {k: v for k, v in spec.items() if k != "name" and v != cls.default(k)}
        options += [f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in moved.items()]
    return f"{trial.strategy} ({', '.join(options)})" if options else trial.strategy


def _options(trial: Trial) -> str | None:
    """The options of `pretune finetune` that mean this trial; None where one would also reach another part."""
    parts = [registry.find("strategy", part).option_names() for part in trial.strategy.split("+")]
    given = {k: v for spec in trial.specs() for k, v in spec.items() if k != "name"}
    if any(sum(option in names for names in parts) > 1 for option in given):
        return None
    return " ".join(
        [f"--strategy {trial.strategy}", *(f"--strategy.{k} {v}" for k, v in given.items()), f"--lr {trial.lr}"]
    )


def _table(trials: Sequence[Trial], winner: Trial, metric: str) -> Table:
    """The finished trials, best first, then the others."""
    shown = Table(caption=f"{metric} over the same folds; against the first trial: paired, 95% interval")
    for name in ("trial", "strategy", "lr", metric, "against default", "seconds"):
        wide = name == "strategy"
        shown.add_column(name, justify="left" if wide else "right", no_wrap=not wide)
    for t in sorted(trials, key=lambda t: (t.state != "finished", -t.score if t.state == "finished" else 0, t.number)):
        gain = _gain(t, trials[0])
        ahead = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" if gain else ""
        score = f"{t.score:.4f}" if t.state == "finished" else t.state
        style = "bold" if t.number == winner.number else None
        shown.add_row(str(t.number + 1), _described(t), f"{t.lr:.2g}", score, ahead, f"{t.seconds:.0f}", style=style)
    return shown

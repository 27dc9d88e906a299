"""Strategy, its main option and learning rate by cross-validation on the training labels, inside a time budget."""

from __future__ import annotations

__all__ = ["Choose"]

import math
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from transformers import PreTrainedModel

from pretune import machine, registry
from pretune.budget import Budget
from pretune.errors import ConfigError, NumericsError
from pretune.progress import StopRequest, hushed, interruptible, say
from pretune.strategies.base import Strategy
from pretune.strategies.freeze import pretrained
from pretune.train import FitResult, Interrupted
from pretune.trials import Trial, Trials, line, outcome
from pretune.tuning import Tuning, check_strategies

if TYPE_CHECKING:
    import optuna

DEFAULT = "full"
"""What a search has to beat: it is always the first trial."""


class Choose(Strategy):
    """Tries strategies on the folds of the training labels, then fine-tunes with the best on all of them.

    The first trial is `full` at its usual learning rate, the next are the other strategies at theirs; then Optuna
    suggests strategy, learning rate and the strategy's main option. All trials have the same folds, which keep groups
    and near sequences together; each fold is trained with the whole `--budget`. A trial that is below the median of the
    earlier ones after two folds is stopped. The score of the best of many is optimistic: measure on test data.

    Args:
        time: Time for the search, over all resumptions; the first trial is always finished, the final training comes
            on top.
        trials: Most trials.
        folds: Number of folds.
        among: Strategies to choose from, e.g. `full,l2sp,l2sp+layer_decay`; None: all that need no validation data.
        lr_range: The learning rate lies between the usual one of the strategy divided by and multiplied with this.
    """

    repeats: ClassVar[bool] = True

    def __init__(
        self,
        *,
        time: str = "10m",
        trials: int = 30,
        folds: int = 5,
        among: str | Sequence[str] | None = None,
        lr_range: float = 4.0,
    ) -> None:
        if not Budget.parse(time, "time").timed:
            raise ConfigError(f'time is a time, such as 10m or 2h; found "{time}".')
        if trials < 1 or folds < 2 or lr_range < 1:
            raise ConfigError(
                "choose needs trials >= 1, folds >= 2 and lr_range >= 1; "
                f"found trials={trials}, folds={folds}, lr_range={lr_range}."
            )
        self.time = time
        self.trials = trials
        self.folds = folds
        self.among = among
        self.lr_range = lr_range

    @property
    def num_folds(self) -> int:
        """As asked for."""
        return self.folds

    def check(self, others: Sequence[Strategy], *, validation: bool) -> None:
        """Refuses what it cannot choose from.

        Raises:
            ConfigError: It is joined with others, or a strategy to choose from cannot work.
        """
        if others:
            names = f"{others[0].name},full+{others[0].name}"
            raise ConfigError(f"choose picks the strategy itself; name what it may pick by --strategy.among {names}.")
        for name in self._names():
            parts = registry.build_all("strategy", name)
            if any(isinstance(p, Choose) for p in parts):
                raise ConfigError("choose cannot choose itself; leave it out of among.")
            check_strategies(parts, validation=validation)

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Only makes sure that there are pre-trained weights: strategies say how those may move."""
        pretrained(model, new, self.name)
        return model

    def conduct(self, tuning: Tuning) -> FitResult:
        """Searches, or goes on with it, and trains the winner on all labels."""
        folds = [rows.tolist() for rows in tuning.folds]
        folder = tuning.run.path / "checkpoints" / self.name
        found = Trials(folder, self._names(), self.lr_range, tuning.options["seed"])
        self._search(found, folds, tuning)
        winner, facts = outcome(found.known, tuning.ready.method.primary)
        fitted = tuning.once(registry.build_all("strategy", winner.specs()), lr_factor=winner.params["lr_factor"])
        return replace(fitted, selection={self.name: facts} | fitted.selection)

    def _names(self) -> list[str]:
        """The default, and what else there is to choose from."""
        if self.among is None:
            every = [(name, registry.build("strategy", name)) for name in registry.names("strategy")]
            given = [name for name, s in every if not s.repeats and not s.selects]
        else:
            given = registry.alternatives("strategy", self.among)
        return [DEFAULT, *(name for name in given if name != DEFAULT)]

    def _search(self, found: Trials, folds: Sequence[list[int]], tuning: Tuning) -> None:
        with interruptible() as stop:
            while self._goes_on(found.known):
                trial = self._run(*found.next(), found, folds, tuning, stop)
                say(f"trial {trial.number + 1}, {line(trial, tuning.ready.method.primary)}")

    def _goes_on(self, known: Sequence[Trial]) -> bool:
        """Whether there is a trial to finish, or one more is allowed and will fit into the time."""
        if not known or known[-1].state == "running":
            return True
        whole = [t.seconds for t in known if t.state == "finished"]
        usual = sum(whole) / len(whole) if whole else 0.0
        in_time = sum(t.seconds for t in known) + usual <= Budget.parse(self.time).amount
        return in_time and len(known) < self.trials

    def _run(
        self,
        trial: Trial,
        live: optuna.Trial,
        found: Trials,
        folds: Sequence[list[int]],
        tuning: Tuning,
        stop: StopRequest,
    ) -> Trial:
        """Scores the folds that are left; what is known is on disk after each."""
        while trial.state == "running":
            trial = self._fold(trial, folds, tuning)
            done = len(trial.scores)
            if trial.state == "running":
                live.report(trial.score, done - 1)
                hopeless = trial.number > 0 and done < len(folds) and live.should_prune()
                state = "stopped" if hopeless else "running" if done < len(folds) else "finished"
                trial = replace(trial, state=state)
            found.keep(trial)
            if machine.agreed(stop.requested):
                raise Interrupted(f"Stopped in trial {trial.number + 1}. Run the same command again to go on.")
        return trial

    def _fold(self, trial: Trial, folds: Sequence[list[int]], tuning: Tuning) -> Trial:
        """The trial with the score of its next fold, or with the reason why there is none."""
        began, fold = time.monotonic(), len(trial.scores)
        rows = [row for row in range(len(tuning.examples)) if row not in set(folds[fold])]
        factor, folder = trial.params["lr_factor"], f"{self.name}/trial-{trial.number}-fold-{fold}"
        try:
            with hushed():
                strategies = registry.build_all("strategy", trial.specs())
                fitted = tuning.once(strategies, folder=folder, rows=rows, lr_factor=factor)
                score = tuning.score(folds[fold])
        except NumericsError as error:
            return replace(trial, state="failed", reason=str(error))
        except ConfigError as error:
            if self.among is not None or trial.strategy == DEFAULT:
                raise
            return replace(trial, state="unfit", reason=str(error))
        if machine.is_main():
            shutil.rmtree(tuning.run.path / "checkpoints" / folder)
        seconds = machine.agreed(trial.seconds + time.monotonic() - began)
        if math.isnan(score):
            return replace(
                trial, state="failed", reason=f"{tuning.ready.method.primary} is not a number", seconds=seconds
            )
        return replace(trial, scores=(*trial.scores, score), lr=fitted.lr, seconds=seconds)

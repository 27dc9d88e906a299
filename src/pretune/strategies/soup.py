"""The average of several fine-tuned models, each taken in only if validation does not suffer (greedy soup)."""

from __future__ import annotations

__all__ = ["Soup"]

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from pretune import machine, registry
from pretune.checkpoint import write_text
from pretune.errors import ConfigError
from pretune.loop import load_tensors, own_tensors
from pretune.progress import hushed, interruptible, say, show
from pretune.strategies.base import Strategy
from pretune.strategies.freeze import pretrained
from pretune.strategies.full import Full
from pretune.train import FitResult, Interrupted
from pretune.tuning import Tuning, check_strategies, comparable


class Soup(Strategy):
    """Fine-tunes several times from the same pre-trained weights and head, and averages the weights greedily.

    Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
    increasing inference time". Members are sorted by validation score; beginning with the best, each is averaged in
    if the score does not fall. The first member is plain fine-tuning; the others differ in data order and dropout,
    learning rate and, with `among`, strategy. Joined as `l2sp+soup`, every member is trained so.

    Args:
        members: Number of fine-tunings.
        lr_range: The members' learning rates lie between the usual one divided by and multiplied with this.
        among: Strategies that the members have in turn, e.g. `full,l2sp`; None: what the soup is joined with, or full.
    """

    repeats: ClassVar[bool] = True

    def __init__(self, *, members: int = 4, lr_range: float = 2.0, among: str | Sequence[str] | None = None) -> None:
        if members < 1 or lr_range < 1:
            raise ConfigError(
                f"A soup needs members >= 1 and lr_range >= 1; found members={members}, lr_range={lr_range}."
            )
        self.members = members
        self.lr_range = lr_range
        self.among = among

    @property
    def needs_validation(self) -> bool:
        """True: validation decides which members are taken."""
        return True

    def check(self, others: Sequence[Strategy], *, validation: bool) -> None:
        """Refuses members that cannot be averaged.

        Raises:
            ConfigError: No validation data, strategies given twice, or updates that stay beside the weights.
        """
        super().check(others, validation=validation)
        joined = [s for s in others if not s.selects]
        if self.among and joined:
            raise ConfigError(
                f'The members\' strategies are given twice, by "{joined[0].name}" and by among={self.among}; leave one '
                "of them out."
            )
        for k in range(self.members if self.among else 1):
            own = self._strategies(k, joined)
            if any(s.repeats for s in own):
                raise ConfigError('Members of a soup are trained once each; leave "soup" and "choose" out of among.')
            check_strategies(own, validation=validation)
            if beside := next((s for s in own if not s.leaves_plain), None):
                raise ConfigError(
                    f'A soup averages weights, and "{beside.name}" leaves its updates beside them; merge them '
                    "(--strategy.merge true)."
                )

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Only makes sure that there are pre-trained weights: without them, members would lie far apart."""
        pretrained(model, new, self.name)
        return model

    def conduct(self, tuning: Tuning) -> FitResult:
        """Trains the members, or goes on with them, and leaves the soup in the task's model."""
        folder = tuning.run.path / "checkpoints" / self.name
        joined = [s for s in tuning.ready.strategies if not s.repeats and not s.selects]
        members: list[Member] = []
        with interruptible() as stop:
            for k in range(self.members):
                members.append(self._member(k, joined, tuning, folder))
                if stop.requested:
                    raise Interrupted(f"Stopped after member {k + 1}. Run the same command again to go on.")
        tuning.ready.again([Full()])  # a plain model, whatever the members' strategies made of theirs
        return self._mixed(members, tuning, folder)

    def _strategies(self, k: int, joined: Sequence[Strategy]) -> list[Strategy]:
        """Fresh strategies of member `k`."""
        if self.among is None:
            found = registry.build_all("strategy", registry.spec(joined) or "full")
        else:
            names = registry.alternatives("strategy", self.among)
            found = registry.build_all("strategy", names[k % len(names)])
        return list(found)

    def _lr_factor(self, k: int, seed: int) -> float:
        """1 for the first member, else drawn evenly in logarithms."""
        drawn = np.random.default_rng([seed, k]).uniform(-1.0, 1.0)
        return float(self.lr_range**drawn) if k else 1.0

    def _member(self, k: int, joined: Sequence[Strategy], tuning: Tuning, folder: Path) -> Member:
        """Trains a member and keeps its weights, or reads what an interrupted run kept of it."""
        file = folder / f"member-{k}.json"
        if file.exists():
            return Member(**json.loads(file.read_text(encoding="utf-8")))
        strategies, seed = self._strategies(k, joined), tuning.options["seed"] + k
        with hushed():
            fitted = tuning.once(
                strategies, folder=f"{self.name}/{k}", lr_factor=self._lr_factor(k, tuning.options["seed"]), seed=seed
            )
            metrics = tuning.metrics()
        word = "+".join(s.name for s in strategies)
        score = metrics[tuning.ready.method.primary]
        found = Member(word, fitted.lr, seed, score, metrics, fitted.steps, fitted.tokens, fitted.seconds)
        if machine.is_main():
            weights = {n: t.contiguous().cpu() for n, t in own_tensors(tuning.ready.method).items()}
            save_file(weights, folder / f"member-{k}.safetensors")
            write_text(file, json.dumps(asdict(found)))
            shutil.rmtree(folder / str(k))
        say(f"soup: member {k + 1} of {self.members}, {word}, lr {fitted.lr:.3g}: {score:.4f}, {fitted.seconds:.0f} s")
        return found

    def _mixed(self, members: Sequence[Member], tuning: Tuning, folder: Path) -> FitResult:
        order = sorted(range(len(members)), key=lambda k: -comparable(members[k].score))
        method, soup = tuning.ready.method, _Average(load_file(folder / f"member-{order[0]}.safetensors"))
        taken, best, tried = [order[0]], members[order[0]].score, {}
        for k in order[1:]:
            wider = soup.with_one_more(load_file(folder / f"member-{k}.safetensors"))
            load_tensors(method, wider.tensors())
            tried[k] = tuning.score()
            if comparable(tried[k]) >= comparable(best):
                taken, best, soup = [*taken, k], tried[k], wider
        load_tensors(method, soup.tensors())
        metrics = tuning.metrics()
        show(_table(members, order, taken, tried))
        say(f"soup of {len(taken)} of {len(members)} members: {method.primary} {best:.4f} on validation data")
        facts = [asdict(m) | {"taken": k in taken, "soup_score": tried.get(k)} for k, m in enumerate(members)]
        return FitResult(
            steps=sum(m.steps for m in members),
            tokens=sum(m.tokens for m in members),
            seconds=sum(m.seconds for m in members),
            best=metrics,
            lr=members[0].lr,
            selection={self.name: {"metric": method.primary, "score": best, "members": facts}},
        )


@dataclass(frozen=True)
class Member:
    """One fine-tuning of a soup and how it validated."""

    strategy: str
    lr: float
    seed: int
    score: float
    metrics: dict[str, float]
    steps: int
    tokens: float
    seconds: float


@dataclass(frozen=True)
class _Average:
    """The sum of `num` models' tensors; what is no floating-point number is that of the first."""

    first: dict[str, Tensor]
    total: Mapping[str, Tensor] | None = None
    num: int = 1

    def with_one_more(self, other: Mapping[str, Tensor]) -> _Average:
        total = self.total or _real(self.first)
        return _Average(self.first, {n: t + other[n].double() for n, t in total.items()}, self.num + 1)

    def tensors(self) -> dict[str, Tensor]:
        mean = {n: (t / self.num).to(self.first[n].dtype) for n, t in (self.total or {}).items()}
        return self.first | mean


def _real(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.to(torch.float64) for n, t in tensors.items() if t.is_floating_point()}


def _table(members: Sequence[Member], order: Sequence[int], taken: Sequence[int], tried: Mapping[int, float]) -> Table:
    table = Table(caption="best first; a member is taken if the soup with it validates no worse")
    for name in ("member", "strategy", "lr", "alone", "soup with it", "taken"):
        table.add_column(name, justify="left" if name == "strategy" else "right")
    for k in order:
        with_it = f"{tried[k]:.4f}" if k in tried else ""
        one = members[k]
        table.add_row(
            str(k + 1), one.strategy, f"{one.lr:.3g}", f"{one.score:.4f}", with_it, "yes" if k in taken else "no"
        )
    return table

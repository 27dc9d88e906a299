"""Fine-tunes a tiny BERT under torchrun and writes its weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, BertConfig

from pretune import machine, registry
from pretune.checkpoint import RunDirectory
from pretune.modalities.base import Batch
from pretune.tasks.classification import Classification
from pretune.train import fit


class Rows(Classification):
    """Classification of ready-made token rows of unequal length."""

    def collate(self, examples, rng=None) -> Batch:  # type: ignore[no-untyped-def]
        width = max(len(e["input_ids"]) for e in examples)
        ids = torch.zeros(len(examples), width, dtype=torch.long)
        for row, example in zip(ids, examples, strict=True):
            row[: len(example["input_ids"])] = torch.tensor(example["input_ids"])
        labels = torch.tensor([e["labels"] for e in examples])
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


def main(out: Path, micro_batches: int, strategy_name: str) -> None:
    rng = np.random.default_rng(0)
    examples = [
        {"input_ids": rng.integers(1, 64, rng.integers(3, 12)).tolist(), "labels": int(rng.integers(3))}
        for _ in range(46)
    ]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=3,
    )
    task = Rows(class_weights="none")
    task.model = AutoModelForSequenceClassification.from_config(config)
    strategy = registry.build("strategy", strategy_name)
    task.model = strategy.setup(task.model, ["classifier.weight", "classifier.bias"])
    rank = PartialState(cpu=True).process_index
    run = RunDirectory(out / f"rank-{rank}")
    fit(
        task, examples, run=run, budget="12steps", batch_size=8, lr=1e-3, seed=1, strategies=[strategy],
        num_micro_batches=micro_batches, lengths=[len(e["input_ids"]) for e in examples], state=run.open({}),
    )  # fmt: skip
    weights = {n: p.detach().clone() for n, p in task.model.named_parameters()}
    both = [torch.empty_like(weights["classifier.weight"]) for _ in range(PartialState(cpu=True).num_processes)]
    if len(both) > 1:
        torch.distributed.all_gather(both, weights["classifier.weight"])
        assert torch.equal(both[0], both[1]), "the processes diverged"
    if rank == 0:
        save_file(weights, out / "weights.safetensors")
    machine.leave()


main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

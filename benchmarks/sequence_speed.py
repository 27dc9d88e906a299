"""Speed on proteins beside transformers: same model, same sequences, same threads, sides in turn.

    python benchmarks/sequence_speed.py --data proteins.csv [--repeats 3] [--size mini]
    python benchmarks/sequence_speed.py predict --data proteins.csv [--records 400]

`mlm` pre-trains ESM (`EsmForMaskedLM`) on blocks of 256 tokens, batch 16; the peer is Trainer with the same config and
`DataCollatorForLanguageModeling`: `packed` gets pretune's own blocks, which is what the goal is about; `padded` one
protein a row, cut at the block and padded to the longest of the batch, the collator's usual use. pretune pre-trains
without dropout, its default; the peer has the config's. `predict` gives every residue one of eight states of secondary
structure, on proteins that the model reads whole, with a random `EsmForTokenClassification`; the peer takes batches of
32 in input order, padded to the longest, under `inference_mode`; the labels must be the same. On a GPU Trainer has
bf16, as pretune by default; the plain model computes in fp32. pretune's clock includes
encoding the letters and writing the answers; the peer's letters are encoded before its clock runs. Counted are residues
a second, of training after the first steps.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from speech_speed import WARM_UP, trainer
from speed import fit_rate, in_turn, verdict

GOALS = {"mlm": 2.5, "predict": 2.0}
STATES = "BEGHIST-"
TIE = 1e-3
"""Logits nearer than this are equal up to rounding."""


def protein(max_length: int) -> Any:
    """The modality with its alphabet."""
    from pretune.modalities.protein import Protein

    modality = Protein(max_length=max_length)
    modality.learn(None)
    return modality


def blocks(modality: Any, data: Path) -> Any:
    """Packed blocks of the whole corpus, as `mlm` gets them."""
    from pretune.pretraining import cache_folder
    from pretune.segments import Blocks

    return Blocks(modality.corpus(str(data), cache=cache_folder(None), split="all"), modality.max_length)


def sequences(modality: Any, data: Path, number: int, longest: int | None = None) -> list[str]:
    """The first proteins of the data, of those that are not longer."""
    from pretune.data import stream_records

    rows = stream_records(
        str(data), roles={"sequence": modality.inputs["sequence"]}, columns={}, required=("sequence",)
    )
    found = (row["sequence"] for row, error in rows if error is None)
    return list(itertools.islice((s for s in found if longest is None or len(s) <= longest), number))


def num_residues(modality: Any, ids: Any) -> int:
    """Tokens that are neither special nor padding."""
    return int(np.isin(ids, list(modality.special.values()), invert=True).sum())


# -- pre-training ------------------------------------------------------------------------------------------------------


def ours_mlm(options: argparse.Namespace) -> float:
    """Of `fit` with the objective, after the first steps."""
    from transformers import AutoModelForMaskedLM, set_seed

    from pretune import encoder, machine, registry

    objective: Any = registry.build("objective", "mlm")
    modality = protein(options.block)
    examples = blocks(modality, options.data)
    set_seed(0)
    model, _ = encoder.make(AutoModelForMaskedLM, modality.config(options.size, "esm"))
    machine.fast_attention(model)
    objective.setup(model, modality)
    tokens = fit_rate(objective, examples, options.steps + WARM_UP, after=WARM_UP, batch_size=options.batch)
    some = np.stack([examples[i]["input_ids"] for i in range(min(500, len(examples)))])
    return tokens * num_residues(modality, some) / some.size


def peer_mlm(options: argparse.Namespace) -> float:
    """Of Trainer after its first steps, on packed blocks or on one protein a row."""
    from transformers import DataCollatorForLanguageModeling, EsmForMaskedLM, set_seed

    modality, seen = protein(options.block), []
    set_seed(0)
    model = EsmForMaskedLM(modality.config(options.size, "esm"))
    masked = DataCollatorForLanguageModeling(modality.hf)

    def collate(chosen: list[dict[str, Any]]) -> Any:
        seen.append(sum(num_residues(modality, row["input_ids"]) for row in chosen))
        return masked(chosen)

    seconds = trainer(model, peer_rows(modality, options), collate, options.batch, max_steps=options.steps + WARM_UP)
    return sum(seen[WARM_UP : WARM_UP + options.steps]) / seconds


def peer_rows(modality: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """As many rows as the steps take."""
    number = options.batch * (options.steps + WARM_UP)
    if options.side == "padded":
        return modality.process_many([{"sequence": s} for s in sequences(modality, options.data, number)])
    examples = blocks(modality, options.data)
    order = np.random.default_rng(0).permutation(len(examples))[:number]
    return [{"input_ids": examples[int(i)]["input_ids"].tolist()} for i in order]


# -- prediction --------------------------------------------------------------------------------------------------------


def write_run(folder: Path, modality: Any, size: str) -> Path:
    """A run directory of tagging with random weights: speed does not depend on them."""
    from transformers import EsmForTokenClassification

    torch.manual_seed(0)
    config: Any = modality.config(size, "esm")
    config.id2label = dict(enumerate(STATES))
    config.label2id = {name: i for i, name in enumerate(STATES)}
    model = EsmForTokenClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    model.save_pretrained(folder / "model")
    modality.save(folder / "model")
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"task": "tagging", "modality": "protein"}))
    return folder


@torch.inference_mode()
def plain(model: Any, modality: Any, rows: list[list[int]], batch: int) -> tuple[list[str], list[np.ndarray]]:
    """States of every residue in batches in input order; and how far the best one is ahead of the next."""
    states: list[str] = []
    leads: list[np.ndarray] = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        inputs = modality.hf.pad({"input_ids": part}, return_tensors="pt").to(model.device)
        best = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.topk(2, dim=-1)
        found, lead = best.indices[..., 0].cpu().numpy(), (best.values[..., 0] - best.values[..., 1]).cpu().numpy()
        states += ["".join(STATES[i] for i in f[1 : len(row) - 1]) for f, row in zip(found, part, strict=True)]
        leads += [e[1 : len(row) - 1] for e, row in zip(lead, part, strict=True)]
    return states, leads


def predict(options: argparse.Namespace) -> dict[str, list[float]]:
    """Residues a second of both in turn, after a round that is not counted; the states must be the same."""
    from transformers import EsmForTokenClassification

    import pretune
    from pretune import machine

    modality = protein(options.longest)
    given = sequences(modality, options.data, options.records, options.longest - 2)
    rows = [e["input_ids"] for e in modality.process_many([{"sequence": s} for s in given])]
    with tempfile.TemporaryDirectory() as name:
        run = write_run(Path(name), modality, options.size)
        model, ours = EsmForTokenClassification.from_pretrained(run / "model").eval(), pretune.load(run)
        model.to(machine.device())
    rates: dict[str, list[float]] = {"transformers": [], "pretune": []}
    for _ in range(options.repeats + 1):
        began = time.perf_counter()
        states, leads = plain(model, modality, rows, 32)
        between = time.perf_counter()
        found = ours.predict([{"sequence": s} for s in given])
        ended = time.perf_counter()
        check_same(states, [p["tags"] for p in found], leads)
        rates["transformers"].append(sum(map(len, given)) / (between - began))
        rates["pretune"].append(sum(map(len, given)) / (ended - between))
    return {name: values[1:] for name, values in rates.items()}


def check_same(states: list[str], found: list[str], leads: list[np.ndarray]) -> None:
    """Stops where a state differs and rounding is not the reason."""
    assert [len(s) for s in states] == [len(f) for f in found], "residues without a state"
    pairs = zip("".join(states), "".join(found), np.concatenate(leads), strict=True)
    other = [float(lead) for a, b, lead in pairs if a != b]
    print(f"{len(other)} of {sum(map(len, found)):,} states differ, all at ties", file=sys.stderr)
    assert max(other, default=0.0) < TIE, f"states differ that are {max(other)} apart"


def main() -> None:
    """Runs both sides in turn and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=sorted(GOALS), help="not given: both")
    parser.add_argument("--data", type=Path, required=True, help="proteins: a table with a column sequence, or FASTA")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", default="mini", help="size preset of the encoder")
    parser.add_argument("--block", type=int, default=256, help="mlm: tokens of a block")
    parser.add_argument("--batch", type=int, default=16, help="mlm: blocks in a step")
    parser.add_argument("--steps", type=int, default=15, help="mlm: timed steps")
    parser.add_argument("--records", type=int, default=400, help="predict: proteins")
    parser.add_argument("--longest", type=int, default=512, help="predict: tokens that the model reads")
    parser.add_argument("--side", choices=["pretune", "packed", "padded"], help="one side of mlm (used by the program)")
    options = parser.parse_args()
    if options.side:
        with contextlib.redirect_stdout(sys.stderr):
            found = (ours_mlm if options.side == "pretune" else peer_mlm)(options)
        print(json.dumps(found))
        return
    if options.what in (None, "mlm"):
        rates = in_turn({side: [__file__, "mlm", *repeated(options), side] for side in SIDES}, options.repeats)
        print(verdict("mlm", "residues/s", rates, peer="packed", goal=GOALS["mlm"]))
        print(verdict("mlm", "residues/s", rates, peer="padded", goal=None))
    if options.what in (None, "predict"):
        rates = predict(options)
        print(verdict("predict", "residues/s", rates, peer="transformers", goal=GOALS["predict"]))


SIDES = ("packed", "padded", "pretune")


def repeated(options: argparse.Namespace) -> list[str]:
    """What a side must be told again; the side follows."""
    words = [w for name in ("data", "size", "block", "batch", "steps") for w in (f"--{name}", getattr(options, name))]
    return [*map(str, words), "--side"]


if __name__ == "__main__":
    main()

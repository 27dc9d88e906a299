"""Proteins that fold by a rule, and a modality of residues, for tests of pair tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EsmConfig, ModernBertConfig

from pretune.alphabets import PROTEIN
from pretune.modalities.base import Batch, Example, Modality

LETTERS = "LAGVSERTIDPKQNFYMHWC"
ESM = EsmConfig(
    vocab_size=33, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    position_embedding_type="rotary", pad_token_id=1, mask_token_id=32, token_dropout=False,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
MODERNBERT = ModernBertConfig(
    vocab_size=33, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    pad_token_id=1, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2,
)  # fmt: skip


class Residues(Modality):
    """One token a residue between 0 and 2, padding 1."""

    kind = "tokens"
    main_input = "input_ids"
    inputs = {"sequence": ("sequence",)}
    alphabet = PROTEIN

    def __init__(self, *, max_length: int = 1024) -> None:
        self.max_length = max_length

    def process(self, record: Any) -> Example:
        return {"input_ids": [0, *(4 + LETTERS.index(letter) for letter in record["sequence"]), 2]}

    def pad(self, examples: Any) -> Batch:
        longest = max(len(e["input_ids"]) for e in examples)
        rows = [e["input_ids"] + [1] * (longest - len(e["input_ids"])) for e in examples]
        ids = torch.tensor(rows)
        return {"input_ids": ids, "attention_mask": (ids != 1).long()}

    def length(self, example: Example) -> int:
        return len(example["input_ids"])

    def save(self, folder: Path) -> None:
        return None


def helix(length: int) -> np.ndarray[Any, Any]:
    """C-alpha atoms of an ideal right-handed alpha helix, in Angstrom, (length, 3)."""
    turn = np.deg2rad(100) * np.arange(length)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], 1)


def hairpin(length: int) -> np.ndarray[Any, Any]:
    """Two strands that lie 5 Angstrom apart and run back; (length, 3)."""
    half = length // 2
    along = np.concatenate([np.arange(half), np.arange(length - half)[::-1]]) * 3.4
    aside = np.where(np.arange(length) < half, 0.0, 5.0)
    return np.stack([along, aside, 0.9 * (np.arange(length) % 2)], 1)


def proteins(number: int, *, seed: int = 0, shortest: int = 28, longest: int = 34) -> list[dict[str, Any]]:
    """Helices of A, E, K, and hairpins whose residues lie beside those of the same letter."""
    rng = np.random.default_rng(seed)
    others = [letter for letter in LETTERS if letter not in "AEK"]
    rows = []
    for k in range(number):
        length = int(rng.integers(shortest, longest + 1))
        strand = others[: length - length // 2]
        helical = "".join(rng.choice(list("AEK"), length))
        sequence, shape = (helical, helix) if k % 2 else ("".join(strand[: length // 2] + strand[::-1]), hairpin)
        coordinates = shape(length).tolist()
        if k == 1:
            coordinates[3] = [None, None, None]
        rows.append({"sequence": sequence, "structure": coordinates, "id": f"p{k}"})
    return rows

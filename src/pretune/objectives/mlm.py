"""Masked language modelling: predict hidden tokens from both sides."""

from __future__ import annotations

__all__ = ["MaskedLanguageModelling"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import AutoModelForMaskedLM

from pretune.masking import mask_tokens
from pretune.modalities.base import Batch, Corpus, Example
from pretune.segments import Blocks, padded, token_batch
from pretune.token_objective import TokenObjective, check_rate, encode
from pretune.vocabulary import cross_entropy, masked_targets, replayed_head


class MaskedLanguageModelling(TokenObjective):
    """Masked language modelling with dynamic masking (Devlin et al. 2019; Liu et al. 2019).

    The encoder runs on all positions, the vocabulary head only on the masked ones.

    Args:
        mask_rate: Share of the tokens to predict. 0.15 is BERT's; 0.2 to 0.4 can train larger models faster
            (Wettig et al. 2023).
        mask_share: Of these, the share shown as the mask token.
        random_share: Of these, the share shown as a random token; the rest is shown unchanged.
        whole_word: Hide whole words rather than single word pieces.
        span_length: Tokens hidden side by side; 1 hides single tokens.
        dropout: Dropout rate while pre-training; 0 is faster and, with few passes over the data, better
            (Geiping and Goldstein 2023). The exported config keeps its own rate.
    """

    def __init__(
        self,
        *,
        mask_rate: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_word: bool = False,
        span_length: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mask_rate = check_rate("mask_rate", mask_rate, low=0.01)
        self.mask_share = check_rate("mask_share", mask_share)
        self.random_share = check_rate("random_share", random_share, high=1 - mask_share)
        self.whole_word = whole_word
        self.span_length = int(check_rate("span_length", span_length, low=1, high=64 if not whole_word else 1))
        self.dropout = check_rate("dropout", dropout, high=0.9)

    def auto_class(self, model_type: str) -> Any:
        """A model with a masked-language-modelling head."""
        return AutoModelForMaskedLM

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """Blocks of the stream, across document ends; a resumed run finds the same ones."""
        return Blocks(corpus, self.max_length)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Masks the blocks: ``input_ids``, ``labels`` (-100 where not masked)."""
        ids, lengths = padded([e["input_ids"] for e in examples], self.table.pad_id)
        noisy, labels = mask_tokens(
            ids,
            self.table,
            rng,
            mask_rate=self.mask_rate,
            mask_share=self.mask_share,
            random_share=self.random_share,
            whole_word=self.whole_word,
            span_length=self.span_length,
        )
        return token_batch(lengths, input_ids=noisy, labels=labels)

    def counts(self, batch: Batch) -> dict[str, float]:
        """The number of masked tokens."""
        return {"mlm": float((batch["labels"] >= 0).sum())}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy in nats at the masked positions."""
        positions, targets = masked_targets(batch["labels"])
        hidden = encode(self.model, batch).last_hidden_state.flatten(0, 1).index_select(0, positions)
        states, weight, bias, _ = replayed_head(self.model, hidden)
        loss, accuracy = cross_entropy(states, weight, bias, targets)
        return {"loss": loss * self.scale.get("mlm", 1.0), "masked_accuracy": accuracy}

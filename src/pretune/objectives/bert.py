"""BERT's own objective: masked language modelling plus next-sentence prediction."""

from __future__ import annotations

__all__ = ["Bert"]

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForPreTraining, PreTrainedModel

from pretune.errors import ConfigError
from pretune.masking import mask_tokens
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.segments import Windows, padded, token_batch
from pretune.token_objective import TokenObjective, check_rate, encode
from pretune.vocabulary import cross_entropy, masked_targets, replayed_head

WITH_SENTENCE_HEAD = ("bert", "megatron-bert", "mobilebert")


class Bert(TokenObjective):
    """Masked language modelling and next-sentence prediction (Devlin et al. 2019).

    A window of consecutive sentences is split into A and B; in half of the pairs B comes from another
    document of the batch (label 1, as in transformers). Unlike `mlm`, this trains the pooler that classifiers
    read.

    Args:
        mask_rate: Share of the tokens to predict.
        mask_share: Of these, the share shown as the mask token.
        random_share: Of these, the share shown as a random token; the rest is shown unchanged.
        whole_word: Hide whole words rather than single word pieces.
        random_rate: Share of the pairs whose B is not the continuation of A.
        dropout: Dropout rate while pre-training; the exported config keeps its own rate.
    """

    units: ClassVar[str] = "sentences"
    family: ClassVar[str | None] = "bert"

    def __init__(
        self,
        *,
        mask_rate: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_word: bool = False,
        random_rate: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mask_rate = check_rate("mask_rate", mask_rate, low=0.01)
        self.mask_share = check_rate("mask_share", mask_share)
        self.random_share = check_rate("random_share", random_share, high=1 - mask_share)
        self.whole_word = whole_word
        self.random_rate = check_rate("random_rate", random_rate)
        self.dropout = check_rate("dropout", dropout, high=0.9)

    def check(self, modality: Modality) -> None:
        """Raises ConfigError for sequences, which have no sentences."""
        if not modality.words:
            raise ConfigError(f"bert needs texts with sentences, and {modality.name} has none; give --objective mlm.")

    def auto_class(self, model_type: str) -> Any:
        """A model with both heads.

        Raises:
            ConfigError: The architecture has no next-sentence head.
        """
        if model_type not in WITH_SENTENCE_HEAD:
            raise ConfigError(
                f'The objective "bert" needs an architecture with a next-sentence head '
                f'({", ".join(WITH_SENTENCE_HEAD)}), and "{model_type}" has none; use the objective "mlm".'
            )
        return AutoModelForPreTraining

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the model; A and B need two token types."""
        super().setup(model, modality)
        if model.config.type_vocab_size < 2:
            raise ConfigError(
                'The objective "bert" marks sentence A and B with two token types, and this model has '
                f'type_vocab_size={model.config.type_vocab_size}; use the objective "mlm".'
            )

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """Windows of consecutive sentences of one document, as long as a pair may be."""
        return Windows(corpus, self.max_length - 3, seed=seed)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Makes the pairs and masks them: also ``token_type_ids`` and ``next_sentence_label``."""
        pairs, is_random = _pairs(examples, self.random_rate, rng)
        cls, sep = np.array([self.table.cls_id]), np.array([self.table.sep_id])
        cut = [_fitted(a, b, self.max_length - 3) for a, b in pairs]
        ids, lengths = padded([np.concatenate((cls, a, sep, b, sep)) for a, b in cut], self.table.pad_id)
        num_first = np.array([len(a) + 2 for a, _ in cut])[:, None]
        columns = np.arange(ids.shape[1])
        types = ((columns >= num_first) & (columns < lengths[:, None])).astype(np.int64)
        noisy, labels = mask_tokens(
            ids,
            self.table,
            rng,
            mask_rate=self.mask_rate,
            mask_share=self.mask_share,
            random_share=self.random_share,
            whole_word=self.whole_word,
        )
        batch = token_batch(lengths, input_ids=noisy, labels=labels, token_type_ids=types)
        return batch | {"next_sentence_label": torch.from_numpy(is_random.astype(np.int64))}

    def counts(self, batch: Batch) -> dict[str, float]:
        """The numbers of masked tokens and of pairs."""
        return {"mlm": float((batch["labels"] >= 0).sum()), "nsp": float(len(batch["labels"]))}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The sum of both cross-entropies, in nats."""
        positions, targets = masked_targets(batch["labels"])
        encoded = encode(self.model, batch)
        hidden = encoded.last_hidden_state.flatten(0, 1).index_select(0, positions)
        states, weight, bias, output = replayed_head(self.model, hidden, encoded.pooler_output)
        mlm, accuracy = cross_entropy(states, weight, bias, targets)
        relation, truth = output.seq_relationship_logits, batch["next_sentence_label"]
        nsp = F.cross_entropy(relation.float(), truth)
        return {
            "loss": mlm * self.scale.get("mlm", 1.0) + nsp * self.scale.get("nsp", 1.0),
            "mlm_loss": mlm.detach(),
            "nsp_loss": nsp.detach(),
            "masked_accuracy": accuracy,
            "next_sentence_accuracy": (relation.detach().argmax(dim=-1) == truth).float().mean(),
        }


Tokens = NDArray[Any]


def _pairs(
    examples: Sequence[Example], rate: float, rng: np.random.Generator
) -> tuple[list[tuple[Tokens, Tokens]], NDArray[np.bool_]]:
    """Sentence pairs and whether B is random: an exact share, wherever another document is in the batch."""
    firsts, seconds = zip(*(_split(e["sentences"], rng) for e in examples), strict=True)
    is_random = _random_ones(examples, seconds, rate, rng)
    pairs = []
    for i, example in enumerate(examples):
        if not is_random[i]:
            pairs.append((firsts[i], seconds[i]))
            continue
        # a one-sentence window lends and gives its whole self: there is nothing to split
        first = np.concatenate(example["sentences"]) if len(example["sentences"]) == 1 else firsts[i]
        pairs.append((first, _foreign(examples, seconds, i, rng)))
    return pairs, is_random


def _split(sentences: Sequence[Tokens], rng: np.random.Generator) -> tuple[Tokens, Tokens]:
    """A and B at a random sentence end; a single sentence is cut inside."""
    if len(sentences) > 1:
        at = int(rng.integers(1, len(sentences)))
        return np.concatenate(sentences[:at]), np.concatenate(sentences[at:])
    at = int(rng.integers(1, max(len(sentences[0]), 2)))
    return sentences[0][:at], sentences[0][at:]


def _random_ones(
    examples: Sequence[Example], seconds: Sequence[Tokens], rate: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which pairs get a foreign B: those without a B of their own, then single sentences, then any."""
    documents = np.array([e["document"] for e in examples])
    if (documents == documents[0]).all():
        return np.zeros(len(examples), dtype=bool)
    wish = rng.random(len(examples)) + np.array([len(e["sentences"]) > 1 for e in examples])
    wish[[len(b) == 0 for b in seconds]] = -1.0
    quota = int(np.floor(rate * len(examples) + rng.random()))
    is_random = np.zeros(len(examples), dtype=bool)
    is_random[np.argsort(wish)[:quota]] = True
    return is_random


def _foreign(examples: Sequence[Example], seconds: Sequence[Tokens], i: int, rng: np.random.Generator) -> Tokens:
    """The B of an example of another document."""
    others = [j for j, e in enumerate(examples) if e["document"] != examples[i]["document"]]
    j = others[int(rng.integers(len(others)))]
    return seconds[j] if len(seconds[j]) else np.concatenate(examples[j]["sentences"])


def _fitted(a: Tokens, b: Tokens, num_max: int) -> tuple[Tokens, Tokens]:
    """Shortens the longer side first: A from its start, B from its end, so that they still meet."""
    room = max(num_max - len(b), num_max // 2)
    a = a[max(len(a) - room, 0) :]
    return a, b[: num_max - len(a)]

"""Replaced-token detection: a discriminator finds the tokens that a small generator replaced."""

from __future__ import annotations

__all__ = ["Electra"]

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from pretune.masking import mask_tokens
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.segments import Blocks, padded, token_batch
from pretune.token_objective import TokenObjective, check_rate, encode, set_dropout
from pretune.vocabulary import TiedHead, masked_targets


class Electra(TokenObjective):
    """ELECTRA (Clark et al. 2020) for any encoder family; the discriminator is what is exported.

    The generator shares the discriminator's embeddings (tokens, positions, norm) through one linear map, and
    is a masked language model of fewer attention heads. Every token teaches the discriminator, not just
    masked ones.

    Args:
        mask_rate: Share of the tokens that the generator fills in.
        whole_word: Replace whole words rather than single word pieces.
        generator_rate: Width of the generator as a share of the discriminator's, in whole attention heads.
        discriminator_weight: Weight of the detection loss beside the generator's.
        temperature: Of the generator's samples; above 1 they are more varied.
        dropout: Dropout rate while pre-training; the exported config keeps its own rate.
    """

    def __init__(
        self,
        *,
        mask_rate: float = 0.15,
        whole_word: bool = False,
        generator_rate: float = 0.5,
        discriminator_weight: float = 50.0,
        temperature: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mask_rate = check_rate("mask_rate", mask_rate, low=0.01)
        self.whole_word = whole_word
        self.generator_rate = check_rate("generator_rate", generator_rate, low=0.01)
        self.discriminator_weight = check_rate("discriminator_weight", discriminator_weight, high=1e6)
        self.temperature = check_rate("temperature", temperature, low=0.01, high=100)
        self.dropout = check_rate("dropout", dropout, high=0.9)

    def auto_class(self, model_type: str) -> Any:
        """The discriminator of transformers for ELECTRA configs, else the bare encoder."""
        return AutoModelForPreTraining if model_type == "electra" else AutoModel

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the discriminator, and builds the generator and, where it has none, the detection head."""
        super().setup(model, modality)
        body: Any = model.base_model
        if getattr(body, "pooler", None) is not None:
            body.pooler = None  # it gets no gradient: an untrained one must not pass for pre-trained
        own_head = hasattr(model, "discriminator_predictions")
        self.head = nn.Identity() if own_head else _DetectionHead(model.config.hidden_size)
        self.generator = AutoModel.from_config(generator_config(model.config, self.generator_rate))
        self.generator.pooler = None
        self.generator.embeddings = _SharedEmbeddings(body, self.generator.config.hidden_size)
        self.generator_head = TiedHead(self.generator.config.hidden_size, body.get_input_embeddings())
        set_dropout(self.generator, self.dropout)

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """Blocks of the stream, as for `mlm`."""
        return Blocks(corpus, self.max_length)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Masks the blocks for the generator: ``input_ids``, ``labels``."""
        ids, lengths = padded([e["input_ids"] for e in examples], self.table.pad_id)
        noisy, labels = mask_tokens(
            ids,
            self.table,
            rng,
            mask_rate=self.mask_rate,
            mask_share=1.0,
            random_share=0.0,
            whole_word=self.whole_word,
        )
        return token_batch(lengths, input_ids=noisy, labels=labels)

    def counts(self, batch: Batch) -> dict[str, float]:
        """The numbers of masked tokens and of all tokens."""
        mask = batch.get("attention_mask")
        total = batch["labels"].numel() if mask is None else int(mask.sum())
        return {"mlm": float((batch["labels"] >= 0).sum()), "detection": float(total)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The generator's loss (``mlm_loss``) plus the weighted detection loss over all tokens."""
        positions, targets = masked_targets(batch["labels"])
        hidden = encode(self.generator, batch).last_hidden_state.flatten(0, 1).index_select(0, positions)
        logits = F.linear(self.generator_head(hidden), self.generator_head.weight, self.generator_head.bias)
        generator_loss = F.cross_entropy(logits.float(), targets)
        sampled = _sample(logits.detach().float() / self.temperature)
        filled = batch["input_ids"].flatten().index_copy(0, positions, sampled)
        replaced = torch.zeros_like(filled, dtype=torch.bool).index_copy(0, positions, sampled != targets)
        scores = self.detect(batch | {"input_ids": filled.view_as(batch["labels"])})
        return self._losses(generator_loss, scores, replaced.view_as(batch["labels"]), batch)

    def detect(self, batch: Batch) -> Tensor:
        """Logits that each token was replaced, (batch, length)."""
        if isinstance(self.head, nn.Identity):
            inputs = {k: batch[k] for k in ("input_ids", "attention_mask") if k in batch}
            return self.model(**inputs).logits
        return self.head(encode(self.model, batch).last_hidden_state)

    def _losses(self, generator_loss: Tensor, scores: Tensor, replaced: Tensor, batch: Batch) -> dict[str, Tensor]:
        if "attention_mask" in batch:
            real = batch["attention_mask"].bool()
            scores, replaced = scores[real], replaced[real]
        detection = F.binary_cross_entropy_with_logits(scores.float(), replaced.float())
        weighted = self.discriminator_weight * self.scale.get("detection", 1.0) * detection
        found = scores.detach() > 0
        return {
            "loss": generator_loss * self.scale.get("mlm", 1.0) + weighted,
            "mlm_loss": generator_loss.detach(),
            "detection_loss": detection.detach(),
            "detection_accuracy": (found == replaced).float().mean(),
            "replaced_recall": (found & replaced).sum() / replaced.sum().clamp(min=1),
        }


def generator_config(config: PretrainedConfig, rate: float) -> PretrainedConfig:
    """The config of an encoder of the same family, narrower by `rate` in whole attention heads."""
    small = copy.deepcopy(config)
    heads = max(1, round(config.num_attention_heads * rate))
    small.hidden_size = config.hidden_size // config.num_attention_heads * heads
    small.intermediate_size = max(8, round(config.intermediate_size * rate / 8) * 8)
    small.num_attention_heads = heads
    if hasattr(config, "embedding_size"):
        small.embedding_size = small.hidden_size
    small.vocab_size = 8 + max(config.pad_token_id or 0, 0)  # its own embeddings are replaced: keep them tiny
    return small


class _SharedEmbeddings(nn.Module):
    """The discriminator's whole embedding module, mapped to the generator's width."""

    def __init__(self, discriminator: Any, width: int) -> None:
        super().__init__()
        # in a tuple: owned by the discriminator, so not registered (and saved) a second time
        self._shared = (discriminator,)
        table = discriminator.get_input_embeddings()
        self.project = nn.Linear(table.embedding_dim, width)
        nn.init.normal_(self.project.weight, std=table.embedding_dim**-0.5)
        nn.init.zeros_(self.project.bias)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.project(self._shared[0].embeddings(*args, **kwargs))


class _DetectionHead(nn.Module):
    """ELECTRA's discriminator head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)
        for layer in (self.dense, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.out(F.gelu(self.dense(hidden))).squeeze(-1)


@torch.no_grad()
def _sample(logits: Tensor) -> Tensor:
    """One token a row, (positions,): argmax of logits plus Gumbel noise, from torch's global generator."""
    noise = torch.empty_like(logits).exponential_().clamp_(min=1e-20).log_()
    return (logits - noise).argmax(dim=-1)

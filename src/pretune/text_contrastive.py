"""Contrastive learning of texts: two dropout views of a text must find each other in the batch."""

from __future__ import annotations

__all__ = ["TextContrastive"]

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune.contrast import geometry
from pretune.errors import ConfigError
from pretune.masking import mask_tokens
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.segments import Windows, framed, padded, token_batch
from pretune.token_objective import TokenObjective, check_rate, encode, pooled
from pretune.vocabulary import TiedHead, masked_targets


class TextContrastive(TokenObjective):
    """Unsupervised SimCSE (Gao et al. 2021): InfoNCE between two passes that differ in dropout alone.

    It shapes the pooled vector and teaches little about words: use it after `mlm` or on a checkpoint
    (``--from``), with many texts a batch, since the others in the batch are the negatives.

    Args:
        temperature: Divides the cosine similarities; smaller is sharper.
        mlm_weight: Weight of masked language modelling in a third pass, which keeps token states from
            decaying; 0 saves that pass.
        mask_rate: Share of the tokens masked (80/10/10) in the third pass.
        dropout: Dropout rate; it is what makes the two views differ, so it cannot be 0.
    """

    units: ClassVar[str] = "sentences"
    least = 2

    def __init__(
        self,
        *,
        temperature: float = 0.05,
        mlm_weight: float = 0.1,
        mask_rate: float = 0.15,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.temperature = check_rate("temperature", temperature, low=0.001, high=10)
        self.mlm_weight = check_rate("mlm_weight", mlm_weight, high=1e6)
        self.mask_rate = check_rate("mask_rate", mask_rate, low=0.01)
        self.dropout = check_rate("dropout", dropout, high=0.9)
        if dropout == 0:
            raise ConfigError(
                'The objective "contrastive" needs dropout above 0: its two views differ in nothing else.'
            )

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the bare encoder with its pooler."""
        super().setup(model, modality)
        table: Any = model.get_input_embeddings()
        self.mlm_head = TiedHead(model.config.hidden_size, table) if self.mlm_weight > 0 else None

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """Windows of sentences of one document."""
        return Windows(corpus, self.max_length - 2, seed=seed)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """The texts, and with an MLM weight their masked copies (``masked_ids``, ``labels``)."""
        ids, lengths = padded([np.concatenate(e["sentences"]) for e in examples], self.table.pad_id)
        ids, lengths = framed(ids, lengths, self.table, self.max_length)
        if self.mlm_weight == 0:
            return token_batch(lengths, input_ids=ids)
        noisy, labels = mask_tokens(ids, self.table, rng, mask_rate=self.mask_rate)
        return token_batch(lengths, input_ids=ids, masked_ids=noisy, labels=labels)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE of the two views, plus weighted masked language modelling."""
        num = len(batch["input_ids"])
        inputs = self._stacked(batch)
        encoded = encode(self.model, inputs)
        vectors = F.normalize(pooled(self.model, encoded, inputs)[: 2 * num].float(), dim=-1)
        first, second = vectors.split(num)
        similarity = first @ second.T / self.temperature
        truth = torch.arange(num, device=similarity.device)
        contrast = F.cross_entropy(similarity, truth)
        logs = {"contrast_loss": contrast.detach()} | geometry(first.detach(), second.detach(), similarity.detach())
        if self.mlm_head is None:
            return {"loss": contrast, **logs}
        positions, targets = masked_targets(batch["labels"])
        states = encoded.last_hidden_state[2 * num :].flatten(0, 1).index_select(0, positions)
        mlm, accuracy = self.mlm_head.loss(states, targets)
        logs |= {"mlm_loss": mlm.detach(), "masked_accuracy": accuracy}
        return {"loss": contrast + self.mlm_weight * mlm, **logs}

    def _stacked(self, batch: Batch) -> Batch:
        """Both views, and the masked copies, as one batch for one pass: dropout draws anew for every row."""
        rows = [batch["input_ids"]] * 2 + ([batch["masked_ids"]] if self.mlm_head is not None else [])
        stacked: Batch = {"input_ids": torch.cat(rows)}
        if "attention_mask" in batch:
            stacked["attention_mask"] = batch["attention_mask"].repeat(len(rows), 1)
        return stacked

    def floor(self, corpus: Corpus) -> Floor | None:
        """What word frequency alone reaches on ``mlm_loss``; without that, there is no reference."""
        return super().floor(corpus) if self.mlm_weight > 0 else None

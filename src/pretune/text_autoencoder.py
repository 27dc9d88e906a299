"""Denoising autoencoder of text: rebuild it from one pooled vector of a corrupted copy."""

from __future__ import annotations

__all__ = ["TextAutoencoder"]

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.masking import Flags, Ids, TokenTable, mask_tokens, word_groups
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.segments import Windows, framed, padded, token_batch
from pretune.token_objective import TokenObjective, check_rate, encode, pooled
from pretune.vocabulary import TiedHead, masked_targets


class TextAutoencoder(TokenObjective):
    """Denoising through one vector with a weak decoder (RetroMAE: Xiao et al. 2022; noise: Lample et al.
    2018).

    The encoder reads a copy with words deleted, shuffled and masked, and pools it as its classifier will. A
    one-layer decoder sees that vector and the original with most words hidden, and must name the hidden ones:
    what the visible words do not tell can only come through the vector.

    Args:
        delete_rate: Share of the words that the encoder's copy lacks.
        shuffle_distance: How many places a word may move in the encoder's copy; 0 keeps the order.
        mask_rate: Share of the remaining tokens that are masked (80/10/10) in the encoder's copy.
        decoder_mask_rate: Share of the tokens hidden from the decoder; at 1 it sees nothing but the vector.
        mlm_weight: Weight of masked language modelling on the corrupted copy, which trains single-token
            states; 0 leaves the vector alone.
        dropout: Dropout rate while pre-training; the exported config keeps its own rate.
    """

    units: ClassVar[str] = "sentences"

    def __init__(
        self,
        *,
        delete_rate: float = 0.1,
        shuffle_distance: float = 3.0,
        mask_rate: float = 0.3,
        decoder_mask_rate: float = 0.7,
        mlm_weight: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.delete_rate = check_rate("delete_rate", delete_rate, high=0.9)
        self.shuffle_distance = check_rate("shuffle_distance", shuffle_distance, high=512)
        self.mask_rate = check_rate("mask_rate", mask_rate)
        self.decoder_mask_rate = check_rate("decoder_mask_rate", decoder_mask_rate, low=0.01)
        self.mlm_weight = check_rate("mlm_weight", mlm_weight, high=1e6)
        self.dropout = check_rate("dropout", dropout, high=0.9)
        if mask_rate == 0 and mlm_weight > 0:
            raise ConfigError("mlm_weight has no effect at mask_rate 0; raise mask_rate, or set mlm_weight to 0.")

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the bare encoder with its pooler, and builds the decoder and the token head."""
        super().setup(model, modality)
        table: Any = model.get_input_embeddings()
        width = model.config.hidden_size
        self.decoder = _Decoder(width, table, model.config.num_attention_heads, self.max_length)
        self.decoder_head = TiedHead(width, table)
        self.mlm_head = TiedHead(width, table) if self.mlm_weight > 0 else None

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """Windows of sentences of one document: one vector should stand for one text."""
        return Windows(corpus, self.max_length - 2, seed=seed)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """The corrupted copy for the encoder, the mostly hidden original for the decoder."""
        rows = [np.concatenate(e["sentences"]) for e in examples]
        original, lengths = padded(rows, self.table.pad_id)
        noisy, num_kept = self._corrupted(original, lengths, rng)
        ids, num_kept = framed(noisy, num_kept, self.table, self.max_length)
        labels = np.full_like(ids, -100)
        if self.mask_rate > 0:
            ids, labels = mask_tokens(ids, self.table, rng, mask_rate=self.mask_rate)
        seen, hidden = mask_tokens(
            original, self.table, rng, mask_rate=self.decoder_mask_rate, mask_share=1.0, random_share=0.0
        )
        batch = token_batch(num_kept, input_ids=ids, labels=labels)
        visible = token_batch(lengths, input_ids=seen, labels=hidden)
        return batch | {"decoder_" + name: tensor for name, tensor in visible.items()}

    def _corrupted(self, ids: Ids, lengths: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """Deletes and shuffles words; returns ids with the gaps at the end, and the new lengths."""
        words = word_groups(ids, self.table)
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        kept = inside & _kept(words, self.table, ids, self.delete_rate, rng)
        moved = words + np.take_along_axis(rng.random(ids.shape), words, axis=1) * (self.shuffle_distance + 1)
        keys = np.where(kept, moved if self.shuffle_distance else words, np.inf)
        order = np.argsort(keys, axis=1, kind="stable")
        return np.take_along_axis(ids, order, axis=1), kept.sum(axis=1)

    def counts(self, batch: Batch) -> dict[str, float]:
        """The numbers of tokens to rebuild and, if they count, of masked tokens."""
        counts = {"rebuild": float((batch["decoder_labels"] >= 0).sum())}
        if self.mlm_head is not None:
            counts["mlm"] = float((batch["labels"] >= 0).sum())
        return counts

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the hidden words, plus weighted masked language modelling."""
        encoded = encode(self.model, batch)
        vector = pooled(self.model, encoded, batch)
        positions, targets = masked_targets(batch["decoder_labels"])
        states = self.decode(vector, batch).flatten(0, 1).index_select(0, positions)
        rebuild, accuracy = self.decoder_head.loss(states, targets)
        logs = {"rebuild_loss": rebuild.detach(), "rebuild_accuracy": accuracy}
        loss = rebuild * self.scale.get("rebuild", 1.0)
        if self.mlm_head is not None:
            positions, targets = masked_targets(batch["labels"])
            states = encoded.last_hidden_state.flatten(0, 1).index_select(0, positions)
            mlm, accuracy = self.mlm_head.loss(states, targets)
            loss = loss + self.mlm_weight * mlm * self.scale.get("mlm", 1.0)
            logs |= {"mlm_loss": mlm.detach(), "masked_accuracy": accuracy}
        return {"loss": loss, **logs}

    def decode(self, vector: Tensor, batch: Batch) -> Tensor:
        """Decoder states at the original's positions, (batch, length, width), from vectors (batch, width)."""
        return self.decoder(vector, batch["decoder_input_ids"], batch.get("decoder_attention_mask"))


def _kept(words: Ids, table: TokenTable, ids: Ids, rate: float, rng: np.random.Generator) -> Flags:
    """Whole words to keep: special tokens and the first word always, so that no text becomes empty."""
    draw = np.take_along_axis(rng.random(ids.shape), words, axis=1)
    return (draw >= rate) | ~table.maskable[ids] | (words == 0)


class _Decoder(nn.Module):
    """One transformer layer over [vector, visible and hidden words]; shares the encoder's word embeddings."""

    def __init__(self, width: int, embeddings: nn.Embedding, num_heads: int, max_length: int) -> None:
        super().__init__()
        self._embeddings = (embeddings,)
        same = embeddings.embedding_dim == width
        self.project = nn.Identity() if same else nn.Linear(embeddings.embedding_dim, width)
        self.positions = nn.Parameter(torch.randn(max_length, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.layer = nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True
        )

    def forward(self, vector: Tensor, ids: Tensor, mask: Tensor | None) -> Tensor:
        words = self.project(self._embeddings[0](ids))
        states = torch.cat((vector[:, None], self.norm(words + self.positions[: ids.shape[1]])), dim=1)
        padding = None if mask is None else nn.functional.pad(mask == 0, (1, 0), value=False)
        return self.layer(states, src_key_padding_mask=padding)[:, 1:]

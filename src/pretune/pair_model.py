"""Models with an answer for every pair of residues: a pre-trained encoder of tokens and a pair head."""

from __future__ import annotations

__all__ = ["AutoPair", "PairModel", "PairOutput"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from pretune.joined_model import AutoJoined, bare_encoder
from pretune.pair_head import AttentionHead, PairwiseHead, start_weights


@dataclass
class PairOutput(ModelOutput):
    """What a pair model gives.

    Attributes:
        logits: Shape (batch, residues, residues, outputs): without the first and the last token.
    """

    logits: Tensor | None = None


class AutoPair(AutoJoined):
    """Builds or loads the pair model of any encoder of tokens.

    The mapping beside the encoder's config is ``pair`` (``head``, ``width``, ``num_convolutions``, and ``bias``: the
    start of the bias of each output).

    Args:
        purpose: End of the class name, ``Contacts`` or ``Structure``.
    """

    def __init__(self, purpose: str) -> None:
        wanted = "tokens; give an encoder of proteins (esm, modernbert)"
        super().__init__(PairModel, purpose, reads="input_ids", wanted=wanted)


class PairModel(PreTrainedModel):
    """Encoder and pair head; made by `AutoPair`, which adds the architecture's base class.

    Args:
        config: Of the encoder, with the mapping ``pair``.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        pair: dict[str, Any] = config.pair
        setattr(self, self.base_model_prefix, bare_encoder(config))
        self._reads_attention = pair["head"] == "attention"
        if self._reads_attention:
            number = config.num_hidden_layers * config.num_attention_heads
            self.pair_head: nn.Module = AttentionHead(number, pair["bias"])
            self.set_attn_implementation("eager")
        else:
            self.pair_head = PairwiseHead(config.hidden_size, pair["width"], pair["num_convolutions"], pair["bias"])
        self.post_init()

    def set_attn_implementation(self, attn_implementation: Any, allow_all_kernels: bool = False) -> None:
        """As transformers'; a head that reads attention keeps the implementation that gives it."""
        reads = getattr(self, "_reads_attention", False)
        super().set_attn_implementation("eager" if reads else attn_implementation, allow_all_kernels)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not start_weights(module):
            super()._init_weights(module)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> PairOutput:
        """Answers for all pairs of residues.

        Args:
            input_ids: One token a residue between one special token before and one behind, shape (batch, tokens).
            attention_mask: 1 for tokens, 0 for padding on the right, shape (batch, tokens).
        """
        real = attention_mask[:, 2:].bool()  # of n tokens the first n - 2 places behind the first are residues
        options: dict[str, Any] = {"output_attentions": True} if self._reads_attention else {}
        found = self.base_model(input_ids, attention_mask=attention_mask, **options)
        if self._reads_attention:
            maps = [a[..., 1:-1, 1:-1] for a in found.attentions]
            return PairOutput(logits=self.pair_head(maps, real))
        return PairOutput(logits=self.pair_head(found.last_hidden_state[:, 1:-1], real))

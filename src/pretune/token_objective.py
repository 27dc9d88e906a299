"""What the objectives on token streams share: the encoder, its vocabulary, dropout and pooling."""

from __future__ import annotations

__all__ = ["TokenObjective", "check_rate", "encode", "pooled", "set_dropout"]

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune.limits import check_range
from pretune.markov import neighbour_floor
from pretune.masking import TokenTable
from pretune.modalities.base import Batch, Corpus, Modality
from pretune.objectives.base import Floor, Objective
from pretune.segments import unigram_entropy

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class TokenObjective(Objective):
    """Base of the token objectives; a subclass has the options `dropout` and `mask_rate`."""

    accepts: ClassVar[frozenset[str]] = frozenset({"tokens"})

    model: PreTrainedModel
    table: TokenTable
    max_length: int
    dropout: float
    words: bool = True
    _seen: Any = None

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the encoder, reads the tokenizer and sets the dropout rate of training."""
        self.model = model
        tokens: Any = modality
        self.table, self.words = TokenTable.of(tokens.hf), modality.words
        self.max_length = min(tokens.max_length, _num_positions(model))
        set_dropout(model, self.dropout)

    def learn(self, corpus: Corpus, *, seed: int) -> None:
        """Keeps the training stream of sequences, whose k-mers the floor counts."""
        self._seen = None if self.words else corpus

    def floor(self, corpus: Corpus) -> Floor | None:
        """The loss that word frequency alone, or that k-mers alone reach, for ``mlm_loss`` where it is logged."""
        stream: Any = corpus
        if self.words:
            return Floor(unigram_entropy(stream.counts()), "word frequency", "mlm_loss")
        value, near = neighbour_floor(self._seen, stream)
        return Floor(value, f"counts of tokens between {near} neighbours on each side", "mlm_loss")

    def export(self) -> PreTrainedModel:
        """The model; its config keeps the dropout rate that fine-tuning should use."""
        return self.model


def _num_positions(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)


def check_rate(name: str, value: float, *, low: float = 0.0, high: float = 1.0) -> float:
    """Returns the value, or raises ConfigError when it is outside low..high."""
    return check_range(name, value, low, high)


def set_dropout(model: nn.Module, rate: float) -> None:
    """Sets every dropout rate of a built model; its config, and so the exported one, is left as it is."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
            continue
        for name in ("attention_dropout", "dropout"):  # rates that are used functionally
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)


def encode(model: PreTrainedModel, batch: Batch) -> Any:
    """The base model's output for the inputs in a batch."""
    base: Any = model.base_model
    return base(**{name: batch[name] for name in INPUTS if name in batch})


def pooled(model: PreTrainedModel, output: Any, batch: Batch) -> Tensor:
    """One vector a sequence, (batch, width): the pooler's, first token, or mean."""
    if getattr(output, "pooler_output", None) is not None:
        return output.pooler_output
    hidden = output.last_hidden_state
    if getattr(model.config, "classifier_pooling", "mean") == "cls":
        return hidden[:, 0]
    if "attention_mask" not in batch:
        return hidden.mean(dim=1)
    mask = batch["attention_mask"][:, :, None].to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

"""A tokenizer, modality and corpus in memory, for tests of token objectives."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from tokenizers import Tokenizer, models
from transformers import BertConfig, ElectraConfig, EsmConfig, ModernBertConfig, PreTrainedTokenizerFast

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"} | {
    "mask_token": "[MASK]"
}
VOCAB_SIZE = 128


def tokenizer() -> PreTrainedTokenizerFast:
    words = [f"w{i}" if i % 3 else f"##p{i}" for i in range(len(SPECIAL), VOCAB_SIZE)]
    vocabulary = {w: i for i, w in enumerate([*SPECIAL.values(), *words])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")), **SPECIAL
    )


def modality(max_length: int = 24) -> SimpleNamespace:
    return SimpleNamespace(kind="tokens", name="text", words=True, hf=tokenizer(), max_length=max_length)


class StandInCorpus:
    """Twelve documents of short sentences; has the methods of TokenCorpus."""

    fingerprint = "stand-in"
    special = {"pad": 0, "cls": 2, "sep": 3, "mask": 4}
    vocab_size = VOCAB_SIZE

    def __init__(self, *, num_documents: int = 12, num_sentences: int = 8, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.num_documents = num_documents
        self.sentences: list[tuple[int, int, np.ndarray]] = []
        parts: list[np.ndarray] = []
        position = 0
        for document in range(num_documents):
            for _ in range(num_sentences):
                words = rng.integers(len(SPECIAL), VOCAB_SIZE, size=rng.integers(3, 8)).astype(np.int32)
                self.sentences.append((position, document, words))
                parts.append(words)
                position += len(words)
            parts.append(np.array([3], dtype=np.int32))
            position += 1
        self.stream = np.concatenate(parts)

    def __len__(self) -> int:
        return len(self.stream)

    def slice(self, start: int, stop: int) -> np.ndarray:
        return self.stream[start:stop]

    def counts(self) -> np.ndarray:
        return np.bincount(self.stream, minlength=VOCAB_SIZE)

    def _first(self, position: int) -> int:
        return next((i for i, s in enumerate(self.sentences) if s[0] >= position), 0)

    def window(self, position: int, length: int) -> list[np.ndarray]:
        first = self._first(position)
        found, total = [], 0
        for _, document, words in self.sentences[first:]:
            if document != self.sentences[first][1] or (found and total + len(words) > length):
                break
            found.append(words[:length])
            total += len(words)
        return found

    def document_at(self, position: int) -> int:
        return self.sentences[self._first(position)][1]


def config(family: str, **overrides):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    sizes |= {"vocab_size": VOCAB_SIZE, "max_position_embeddings": 64, "pad_token_id": 0} | overrides
    if family == "modernbert":
        sizes |= {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
        return ModernBertConfig(**sizes)
    if family == "electra":
        return ElectraConfig(embedding_size=16, **sizes)
    if family == "esm":
        return EsmConfig(mask_token_id=4, token_dropout=False, position_embedding_type="rotary", **sizes)
    return BertConfig(**sizes)

"""One tag for each word: named entities with their spans, parts of speech, secondary structure."""

from __future__ import annotations

__all__ = ["Tagging"]

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification, PreTrainedModel

from pretune import features
from pretune.errors import ConfigError, DataError, did_you_mean
from pretune.label_doubts import Doubt, word_doubts
from pretune.modalities.base import Batch, Example, Modality
from pretune.tag_schemes import ENTITY, detect_scheme, spans_of, to_iob2
from pretune.tagged_words import words_in
from pretune.targets import entity_mistake, entity_targets, letter_targets
from pretune.tasks.base import Prediction, Reliability, Target, Task

_IGNORED = -100
_OWN = frozenset({"labels", "features", "words", "offsets", "word_index", "word_ids", "more"})


class Tagging(Task):
    """Tags words by the first of their sub-words.

    Entity tags may come as IOB1, IOB2, BIOES or BILOU and are normalised to IOB2; then metrics are of whole
    entities. Other tags (parts of speech) are taken as they are. A sentence too long for the model is
    tagged in overlapping
    windows: no word is dropped, neither in training nor in prediction.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"tokens"})
    label_columns: ClassVar[Sequence[str]] = ("tags", "ner_tags", "labels", "label", "ner", "pos")
    label_role: ClassVar[str] = "tags"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "tokens": ("tokens", "words"),
        "text": ("text", "sentence"),
    }
    stratified: ClassVar[bool] = False
    truncates: ClassVar[bool] = False
    primary: ClassVar[str] = "f1"
    can_doubt: ClassVar[bool] = True
    no_target = "No entity was predicted here; name one, (label, start, end) in words, to see what speaks for it."

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[str] = []
        self.by_letter = False

    def check(self, modality: Modality) -> None:
        """Reads sequences letter by letter.

        Raises:
            ConfigError: Tokens of several letters, or labels of the other strand.
        """
        self.by_letter = "sequence" in modality.inputs
        if self.by_letter and not getattr(modality, "letters", True):
            found = getattr(modality, "tokenizer", None)
            raise ConfigError(f'tagging needs a token a letter, and the tokenizer is "{found}"; pre-train with single.')
        if getattr(modality, "reverse_complement", False):
            raise ConfigError("modality.reverse_complement has no effect in tagging; leave it out.")

    def input_roles(self, modality: Modality) -> dict[str, Sequence[str]]:
        """Words or text; the sequence where each letter has a tag."""
        return dict(modality.inputs) if self.by_letter else super().input_roles(modality)

    @property
    def entities(self) -> bool:
        """Whether the tags mark entities (IOB2), rather than being one class a word."""
        return "O" in self.labels and all(n == "O" or ENTITY.fullmatch(n) for n in self.labels)

    # -- labels ----------------------------------------------------------------------------------------------

    def read_label(self, record: Mapping[str, Any], column: str) -> list[str]:
        """The tags as a list of strings; one string is split at white space.

        Raises:
            DataError: Neither, or a missing tag.
        """
        value = record[column]
        tags = value.split() if isinstance(value, str) else value
        if self.by_letter and isinstance(tags, list) and len(tags) == 1 and isinstance(tags[0], str):
            tags = list(tags[0])
        if not isinstance(tags, list | tuple | np.ndarray) or any(t is None or t != t for t in tags):
            raise DataError(f"A record needs one tag a word, found {value!r} in column {column}.")
        return [str(tag) for tag in tags]

    def learn_labels(self, labels: Sequence[Any]) -> None:
        """Learns the tag set: O and B-, I- of each entity type; or the tags themselves.

        Raises:
            DataError: No entity at all, fewer than two tags, or tags that fit no scheme.
        """
        rows = [self.read_label({"tags": row}, "tags") for row in labels]
        scheme = detect_scheme(rows)
        names = {tag for row in rows for tag in (row if scheme == "plain" else to_iob2(row))}
        if scheme != "plain":
            types = sorted({name[2:] for name in names if name != "O"})
            self.labels = ["O", *(f"{prefix}-{t}" for t in types for prefix in "BI")]
        else:
            self.labels = sorted(names)
        self._choose_primary()
        if len(self.labels) < 2:
            found = f'only "{next(iter(names))}"' if names else "none"
            raise DataError(f"Tagging needs at least two different tags, found {found} in {len(rows)} records.")

    def _choose_primary(self) -> None:
        self.primary = "f1" if self.entities else "accuracy"  # type: ignore[misc]

    def config_overrides(self) -> dict[str, Any]:
        """Tag names."""
        return {
            "id2label": dict(enumerate(self.labels)),
            "label2id": {name: i for i, name in enumerate(self.labels)},
        }

    def auto_class_for(self, kind: str) -> Any:
        """The token classifier."""
        return AutoModelForTokenClassification

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes tag names from the model's config."""
        super().restore(model, modality)
        self.check(modality)
        names = cast(dict[int, str], model.config.id2label)
        self.labels = [names[i] for i in range(len(names))]
        self._choose_primary()

    def _normalised(self, tags: Any) -> list[str]:
        row = self.read_label({"tags": tags}, "tags")
        return to_iob2(row) if self.entities else row

    # -- examples --------------------------------------------------------------------------------------------

    def process(self, records: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Records with ``tokens`` (words) or raw ``text`` to examples, long ones with further windows."""
        rows = [words_in(record) for record in records]
        examples = self.modality.process_many([{"tokens": row["words"]} for row in rows])
        return [row | self._windowed(row["words"], e) for row, e in zip(rows, examples, strict=True)]

    def _windowed(self, words: list[str], example: Example) -> Example:
        first, *more = self._windows(words, example)
        return first | ({"more": more} if more else {})

    def _windows(self, words: list[str], example: Example) -> list[Example]:
        """As many windows as the sentence takes; a word belongs to the one where it has most context."""
        start, covered = 0, _covered(example)
        windows = [(start, covered, example)]
        while start + covered < len(words):
            tail = self.modality.process({"tokens": words[start + covered :]})
            if not _covered(tail):
                break  # only words without a sub-word are left
            start += max(1, covered - covered // 4)
            example = self.modality.process({"tokens": words[start:]})
            covered = _covered(example)
            windows.append((start, start + covered, example))
        starts = [w[0] for w in windows[1:]]
        cuts = [(s + end + 1) // 2 for s, (_, end, _) in zip(starts, windows, strict=False)]
        owned = zip([0, *cuts], [*cuts, len(words)], windows, strict=True)
        return [e | {"word_index": _word_index(e["word_ids"], at, lo, hi)} for lo, hi, (at, _, e) in owned]

    def labelled(self, example: Example, label: Any) -> Example:
        """Adds one tag index a word.

        Raises:
            DataError: Not one tag a word, malformed or unknown tags.
        """
        tags = self._normalised(label)
        if len(tags) != len(example["words"]):
            raise DataError(f"There are {len(example['words'])} words and {len(tags)} tags; they must be as many.")
        index = {name: i for i, name in enumerate(self.labels)}
        for tag in tags:
            if tag not in index:
                known = ", ".join(self.labels[:12]) + (" ..." if len(self.labels) > 12 else "")
                raise DataError(
                    f'Tag "{tag}" does not occur in the training data, which has: {known}.'
                    f"{did_you_mean(tag, self.labels)}"
                )
        return example | {"labels": [index[tag] for tag in tags]}

    # -- a step ----------------------------------------------------------------------------------------------

    def collate(self, examples: Sequence[Example], rng: np.random.Generator | None = None) -> Batch:
        """Pads all windows; ``labels``, ``word_index``: (rows, tokens); ``row_of``: each row's example.

        ``word_index`` is the word at its first sub-word and -1 elsewhere; ``labels`` is -100 there.
        """
        rows = [(i, row) for i, e in enumerate(examples) for row in (e, *e.get("more", ()))]
        batch = self.modality.pad([{k: v for k, v in row.items() if k not in _OWN} for _, row in rows])
        index = np.full(tuple(batch["input_ids"].shape), -1, dtype=np.int64)
        for r, (_, row) in enumerate(rows):
            index[r, : len(row["word_index"])] = row["word_index"]
        batch["word_index"] = torch.from_numpy(index)
        batch["row_of"] = torch.tensor([i for i, _ in rows])
        if "labels" in examples[0]:
            labels = np.full_like(index, _IGNORED)
            for r, (i, _) in enumerate(rows):
                here = index[r] >= 0
                labels[r, here] = np.asarray(examples[i]["labels"])[index[r, here]]
            batch["labels"] = torch.from_numpy(labels)
        return batch | features.stack(examples, batch)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Words with a tag."""
        return {"words": float((batch["labels"] != _IGNORED).sum())}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``logits`` (rows, tokens, tags), and ``loss`` over words when there are labels."""
        logits = features.logits(self.model, batch)
        if "labels" not in batch:
            return {"logits": logits}
        known = batch["labels"] != _IGNORED
        total = F.cross_entropy(logits[known].float(), batch["labels"][known], reduction="sum")
        return {"loss": total / known.sum().clamp(min=1) * self.scale.get("words", 1.0), "logits": logits}

    # -- results ---------------------------------------------------------------------------------------------

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """``tags``, one a word, and ``spans`` of the entities: label, words [start, end), text, score.

        For raw text, spans also have ``start_char`` and ``end_char``. A word without any sub-word gets ``O``.
        """
        best, scores = (t.cpu().numpy() for t in _best(logits))
        index, row_of = batch["word_index"].cpu().numpy(), batch["row_of"].cpu().numpy()
        starts = np.cumsum([0, *(len(e["words"]) for e in examples)])
        rows, columns = np.nonzero(index >= 0)
        place = starts[row_of[rows]] + index[rows, columns]
        flat = np.full(starts[-1], -1, dtype=np.int64)
        flat[place] = best[rows, columns]
        score = np.zeros(starts[-1])
        score[place] = scores[rows, columns]
        names = np.array([*self.labels, "O"], dtype=object)[flat]
        cuts = zip(starts[:-1], starts[1:], examples, strict=True)
        return [self._prediction(names[a:b].tolist(), score[a:b], e) for a, b, e in cuts]

    def held_out(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """Also ``words``, and ``each``: probabilities (words, tags), all the same of a word without a sub-word."""
        odds, index = logits.float().softmax(-1).cpu().numpy(), batch["word_index"].cpu().numpy()
        each = [np.full((len(e["words"]), len(self.labels)), 1 / len(self.labels)) for e in examples]
        for row, i in enumerate(batch["row_of"].tolist()):
            here = index[row] >= 0
            each[i][index[row, here]] = odds[row, here]
        found = zip(self.decode(logits, batch, examples), examples, each, strict=True)
        return [p | {"words": e["words"], "each": odds} for p, e, odds in found]

    def doubts(self, found: Sequence[Prediction], labels: Sequence[Any]) -> list[Doubt]:
        """Words with another tag than others of their kind, the surest of each record."""
        return word_doubts(found, [self._normalised(row) for row in labels], self.labels)

    def _prediction(self, tags: list[str], scores: Any, example: Example) -> Prediction:
        if self.by_letter and all(len(tag) == 1 for tag in self.labels):
            return {"tags": "".join(tags), "scores": [round(float(s), 4) for s in scores]}
        found = spans_of(tags) if self.entities else []
        return {"tags": tags, "spans": [_span(label, a, b, scores, example) for label, a, b in found]}

    def uncertainty(self, logits: Tensor, batch: Batch, found: Sequence[Prediction]) -> list[float]:
        """Mean entropy of the words' tags, as a share of the most that there can be."""
        words = batch["word_index"] >= 0
        spread = torch.special.entr(logits.float().softmax(-1)).sum(-1) / np.log(max(2, logits.shape[-1])) * words
        records = batch["row_of"].to(logits.device)
        sums, counts = (spread.new_zeros(len(found)).index_add(0, records, v.sum(1).float()) for v in (spread, words))
        return (sums / counts.clamp(min=1)).tolist()

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """Entities: ``precision``, ``recall``, ``f1`` (strict IOB2); else ``accuracy``, ``macro_f1``."""
        truth, guess = [self._normalised(row) for row in labels], [p["tags"] for p in predictions]
        if self.entities:
            scores = precision_recall_fscore_support(truth, guess, average="micro", scheme=IOB2, zero_division=0)
            return dict(zip(("precision", "recall", "f1"), map(float, scores[:3]), strict=True))
        true, found = [t for row in truth for t in row], [t for row in guess for t in row]
        macro = f1_score(true, found, average="macro", zero_division=0.0)
        return {"accuracy": float(accuracy_score(true, found)), "macro_f1": float(macro)}

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Reliability | None:
        """Of entities that were found, right with all their words and their type; of letters."""
        rows = [self._normalised(row) for row in labels]
        if self.entities:
            true = [spans_of(row) for row in rows]
            pairs = [(s["score"], (s["label"], s["start"], s["end"]) in t)
                     for p, t in zip(predictions, true, strict=True) for s in p["spans"]]  # fmt: skip
            return "entities found", [p for p, _ in pairs], [float(right) for _, right in pairs]
        if "scores" not in predictions[0]:
            return None
        found = [tag for p in predictions for tag in p["tags"]]
        right = [float(a == b) for a, b in zip(found, (t for row in rows for t in row), strict=True)]
        return "letters", [s for p in predictions for s in p["scores"]], right

    def blind(self, labels: Sequence[Any]) -> tuple[str, list[Prediction]] | None:
        """Always the most common tag; an entity cannot be found so."""
        if self.entities:
            return None
        rows = [self._normalised(row) for row in labels]
        most = Counter(tag for row in rows for tag in row).most_common(1)[0][0]
        return f"always answering {most}", [{"tags": [most] * len(row)} for row in rows]

    def targets(self, prediction: Prediction, of: Any = None) -> list[Target]:
        """Every predicted entity, or the one that `of` names; where letters have tags, see `letter_targets`."""
        if self.by_letter and not self.entities:
            return letter_targets(prediction["tags"], of)
        return entity_targets(prediction, of)

    def mistake(self, prediction: Prediction, label: Any) -> tuple[str, Any] | None:
        """An entity that is none, or has another type or other words; else one that was missed."""
        return entity_mistake(prediction["spans"], spans_of(self._normalised(label))) if self.entities else None

    def target(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Summed logits of an entity's tags at the first sub-words of its words.

        Args:
            logits: Shape (rows, tokens, tags).
            batch: Of the same rows, or of the one row that all logits come from.
            of: A span as `decode` gives it, or ``(label, start, end)`` in words; None: all words predicted
                as part of an entity (all words where there is none).
        """
        index = batch["word_index"]
        if of is None:
            best = logits.detach().argmax(-1)
            here = index.expand(best.shape) >= 0
            inside = here & (best != self.labels.index("O")) if self.entities else here
            inside = torch.where(inside.any(-1, keepdim=True), inside, here)
            scores = (logits.max(-1).values * inside).sum(-1)
        else:
            scores = (logits * self._tag_mask(index, logits, of)).sum((1, 2))
        row_of = batch["row_of"]
        if len(scores) != len(row_of) or len(row_of) == int(row_of.max()) + 1:
            return scores
        return scores.new_zeros(int(row_of.max()) + 1).index_add(0, row_of, scores)

    def answer(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Probability of all tags of an entity together; of a stretch of letters the geometric mean; shape (batch,)."""
        together = super().answer(logits, batch, of=of)
        if not self.by_letter or of is None:
            return together
        start, end = (of["start"], of["end"]) if isinstance(of, Mapping) else of[1:]
        return together ** (1 / (end - start))

    def _tag_mask(self, index: Tensor, logits: Tensor, of: Any) -> Tensor:
        label, start, end = (of["label"], of["start"], of["end"]) if isinstance(of, Mapping) else of
        tags = (f"B-{label}", f"I-{label}") if self.entities else (label, label)
        missing = [t for t in tags if t not in self.labels]
        if missing:
            raise ConfigError(f'There is no tag "{missing[0]}".{did_you_mean(missing[0], self.labels)}')
        first, rest = (self.labels.index(t) for t in tags)
        mask = torch.zeros(*index.shape, logits.shape[-1], dtype=logits.dtype, device=logits.device)
        mask[..., first] += index == start
        mask[..., rest] += (index > start) & (index < end)
        return mask


def _covered(example: Example) -> int:
    """Number of words from the first on that an example has sub-words of."""
    return max(example["word_ids"], default=-1) + 1


def _word_index(word_ids: Sequence[int], shift: int, low: int, high: int) -> list[int]:
    """The word that starts at each sub-word, -1 for others and for words outside [low, high)."""
    pairs = zip([-1, *word_ids], word_ids, strict=False)
    found = [w + shift if w >= 0 and w != before else -1 for before, w in pairs]
    return [w if low <= w < high else -1 for w in found]


def _best(logits: Tensor) -> tuple[Tensor, Tensor]:
    scores, best = logits.detach().float().softmax(-1).max(-1)
    return best, scores


def _span(label: str, start: int, end: int, scores: Any, example: Example) -> dict[str, Any]:
    span = {
        "label": label,
        "start": start,
        "end": end,
        "text": " ".join(example["words"][start:end]),
        "score": float(scores[start:end].mean()),
    }
    if "offsets" in example:
        span |= {"start_char": example["offsets"][start][0], "end_char": example["offsets"][end - 1][1]}
    return span

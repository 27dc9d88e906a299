"""Speech to text: characters by connectionist temporal classification, words with their times."""

from __future__ import annotations

__all__ = ["Ctc"]

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCTC, PreTrainedModel

from pretune import features
from pretune.ctc_decoding import Transcript, beam, greedy
from pretune.ctc_windows import in_windows
from pretune.encoder import Source, TransferReport, model_folder
from pretune.errors import ConfigError, DataError, shortened
from pretune.modalities.base import Batch, Example, Modality
from pretune.ngram import NGram
from pretune.progress import say
from pretune.read_ahead import ahead
from pretune.sound_frames import frame_counts, inside
from pretune.spelling import DELIMITER, Spelling, frames_needed
from pretune.targets import word_targets
from pretune.tasks.base import Prediction, Reliability, Target, Task
from pretune.transcript_errors import Edits, edits, rates, word_mistake, words_right

_LM_FILE = "lm.json"
_DECODING = ("beam_width", "lm", "lm_weight", "word_bonus")


class Ctc(Task):
    """Connectionist temporal classification (Graves et al. 2006) over the characters of the transcripts.

    Args:
        alphabet: The characters to tell apart, besides the space; not given: those of the training transcripts.
        case: ``lower`` turns transcripts to lower case; ``keep`` leaves them.
        punctuation: ``drop`` leaves out all but letters, digits and apostrophes; ``keep`` learns them too.
        decoder: ``greedy`` takes the best symbol of each frame; ``beam`` searches for the best text.
        beam_width: Texts that the beam search keeps.
        lm: A text file whose words, as a trigram model, help the beam search; it is stored with the run.
        lm_weight: Weight of that model.
        word_bonus: Added for each word, since a language model makes every word costly.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"waveform"})
    label_columns: ClassVar[Sequence[str]] = ("text", "transcript", "transcription", "sentence", "normalized_text")
    label_role: ClassVar[str] = "text"
    stratified: ClassVar[bool] = False
    truncates: ClassVar[bool] = False
    has_leads: ClassVar[bool] = False
    lr_multiple: ClassVar[float] = 3.0  # at the usual rate hundreds of steps pass before it says anything
    primary: ClassVar[str] = "char_accuracy"
    no_target: ClassVar[str] = "No word was heard here."
    predicting: ClassVar[Sequence[str]] = ("decoder", *_DECODING)

    def __init__(
        self,
        *,
        alphabet: str | None = None,
        case: Literal["lower", "keep"] = "lower",
        punctuation: Literal["drop", "keep"] = "drop",
        decoder: Literal["greedy", "beam"] = "greedy",
        beam_width: int = 50,
        lm: str | None = None,
        lm_weight: float = 0.5,
        word_bonus: float = 1.0,
    ) -> None:
        super().__init__()
        self.alphabet, self.case, self.punctuation, self.decoder = alphabet, case, punctuation, decoder
        self.beam_width, self.lm, self.lm_weight, self.word_bonus = beam_width, lm, lm_weight, word_bonus
        self._check_options()
        self.spelling = Spelling(lower=case == "lower", drop_punctuation=punctuation == "drop")
        self._ngram: NGram | None = None
        self._other_words = False

    def _check_options(self) -> None:
        for name, known in (
            ("case", ("lower", "keep")),
            ("punctuation", ("drop", "keep")),
            ("decoder", ("greedy", "beam")),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f'{name} is "{known[0]}" or "{known[1]}", found "{getattr(self, name)}".')
        if not 1 <= self.beam_width <= 10_000:
            raise ConfigError(f"beam_width must be from 1 to 10,000, found {self.beam_width}.")
        if self.lm_weight < 0:
            raise ConfigError(f"lm_weight must be 0 or more, found {self.lm_weight}: improbable words would be sought.")
        for name in _unread(self.decoder, self.lm):
            if getattr(self, name) != self.default(name):
                needed = "--task.decoder beam" if self.decoder == "greedy" else "--task.lm"
                raise ConfigError(f"{name} has no effect without {needed}; add that, or leave it out.")

    def change(self, given: Mapping[str, Any]) -> None:
        """As `Task.change`; with what is turned off goes what the run had for it."""
        unread = _unread(given.get("decoder", self.decoder), given.get("lm", self.lm))
        super().change({name: self.default(name) for name in unread} | dict(given))
        self._other_words = "lm" in given

    # -- labels ------------------------------------------------------------------------------------------------------

    def read_label(self, record: Mapping[str, Any], column: str) -> str:
        """The transcript as it is compared.

        Raises:
            DataError: Nothing of it is left.
        """
        text = self.spelling.normal(str(record[column]))
        if not text:
            where = f"{record['_file']}, row {record['_row']}," if record.get("_file") else "A recording"
            raise DataError(f"{where} has no letters in its transcript {record[column]!r}; correct or remove it.")
        return text

    def learn_labels(self, labels: Sequence[Any]) -> None:
        """Learns the alphabet, and the word model where there is one.

        Raises:
            DataError: An alphabet was given that lacks characters of the transcripts.
        """
        self.spelling.learn((self.read_label({"text": t}, "text") for t in labels), self.alphabet)
        self._learn_words()

    def _learn_words(self) -> None:
        if self.lm is not None:
            from pretune.data import documents

            self._ngram = NGram.from_sentences(self.spelling.normal(d.text) for d in documents(self.lm))

    def config_overrides(self) -> dict[str, Any]:
        """Size of the alphabet, and its blank."""
        special = {"bos_token_id": None, "eos_token_id": None, "ctc_zero_infinity": True}
        return {"vocab_size": len(self.spelling.symbols), "pad_token_id": self.spelling.blank, **special}

    def auto_class_for(self, kind: str) -> Any:
        """Encoders with a linear layer over frames."""
        return AutoModelForCTC

    def setup_from(self, source: Source, modality: Modality) -> TransferReport:
        """As `Task.setup_from`; a head of another alphabet starts anew."""
        report = super().setup_from(source, modality)
        other = isinstance(source, str | Path) and Spelling.of(model_folder(source))
        head = [n for n, _ in self.model.named_parameters() if n.startswith("lm_head.")]
        if not other or other.symbols == self.spelling.symbols or set(head) <= set(report.new):
            return report
        say("the checkpoint's head has other letters; it starts anew")
        model: Any = self.model
        model._init_weights(model.lm_head)
        return replace(report, new=[*report.new, *head])

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the alphabet, and the word model, from the model's folder."""
        super().restore(model, modality)
        folder = Path(str(model.name_or_path))
        found = Spelling.of(folder)
        if found is None:
            raise ConfigError(f'"{folder}" has no vocab.json, which names the letters of its output; copy it there.')
        self.spelling = replace(self.spelling, symbols=found.symbols)
        if self._other_words:
            self._learn_words()
        elif (folder / _LM_FILE).is_file():
            self._ngram = NGram.from_dict(json.loads((folder / _LM_FILE).read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        """Writes the alphabet as a `Wav2Vec2CTCTokenizer`, and the word model."""
        self.spelling.save(folder)
        if self._ngram is not None:
            (folder / _LM_FILE).write_text(json.dumps(self._ngram.to_dict()), encoding="utf-8")

    def process(self, records: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Whole recordings, of any length: long ones are read in windows."""
        modality: Any = self.modality
        return [{"input_values": s} for s in ahead(lambda r: modality.samples(r["audio"]), records)]

    def labelled(self, example: Example, label: Any) -> Example:
        """Adds the symbols of the transcript."""
        return example | {"labels": self.spelling.encode(self.read_label({"text": label}, "text"))}

    def check_learnable(self, example: Example) -> None:
        """Finds more letters than frames, and a recording that is too long to learn from.

        Raises:
            DataError: It is one of these.
        """
        modality: Any = self.modality
        ids: list[int] = example["labels"]
        seconds = len(example["input_values"]) / modality.rate
        frames = len(example["input_values"]) // modality.frame_samples
        needed = frames_needed(ids)
        if needed > frames:
            helps = modality.spectral and modality.frame_ms > 20 and needed <= 2 * frames
            text = shortened("".join(self.spelling.symbols[i] for i in ids).replace(DELIMITER, " "))
            raise DataError(
                f"the recording has {frames} frames ({seconds:.2f} s), too few for the {needed} that {text} needs: "
                f"correct or remove it{'; --modality.frame_ms 20 doubles them, from scratch' if helps else ''}."
            )
        if seconds > modality.max_seconds:
            raise DataError(
                f"the recording lasts {seconds:.1f} s and max_seconds is {modality.max_seconds:g}: its transcript "
                "cannot be cut with it; cut both at pauses, or raise --modality.max_seconds."
            )

    # -- a step ------------------------------------------------------------------------------------------------------

    def collate(self, examples: Sequence[Example], rng: np.random.Generator | None = None) -> Batch:
        """Pads inputs; ``labels`` (batch, most symbols), -100 beyond the end."""
        batch = self.inputs(examples, rng)
        if "labels" in examples[0]:
            most = max(len(e["labels"]) for e in examples)
            rows = [[*e["labels"], *[-100] * (most - len(e["labels"]))] for e in examples]
            batch["labels"] = torch.tensor(rows)
        return batch

    def counts(self, batch: Batch) -> dict[str, float]:
        """Characters of the transcripts."""
        return {"characters": float((batch["labels"] >= 0).sum())}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``logits`` (batch, frames, symbols), and ``loss`` a character when there are labels."""
        modality: Any = self.modality
        most = round(modality.max_seconds * modality.rate)
        long = not self.training and int(batch["num_samples"].max()) > most
        logits = in_windows(self.model, modality, batch) if long else features.logits(self.model, batch)
        if "labels" not in batch:
            return {"logits": logits}
        labels = batch["labels"]
        kept = labels >= 0
        loss = F.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1),
            labels[kept],
            frame_counts(self.model, batch),
            kept.sum(1),
            blank=self.spelling.blank,
            reduction="sum",
            zero_infinity=True,
        )
        return {"loss": loss / kept.sum() * self.scale.get("characters", 1.0), "logits": logits}

    # -- results -----------------------------------------------------------------------------------------------------

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """``text`` and ``words``: each with ``start`` and ``end`` in seconds and ``confidence``."""
        logs = logits.float().log_softmax(-1).cpu().numpy()
        counts = frame_counts(self.model, batch).tolist()
        return [self._prediction(self._heard(row[:n])) for row, n in zip(logs, counts, strict=True)]

    def _heard(self, logs: Any) -> Transcript:
        symbols, blank = self.spelling.symbols, self.spelling.blank
        if self.decoder == "greedy":
            return greedy(logs, symbols, blank)
        lm = {"lm": self._ngram, "lm_weight": self.lm_weight, "word_bonus": self.word_bonus}
        given: dict[str, Any] = lm if self._ngram else {}
        return beam(logs, symbols, blank, width=self.beam_width, **given)

    def _prediction(self, found: Transcript) -> Prediction:
        modality: Any = self.modality
        second = modality.frame_seconds
        return {
            "text": found.text,
            "words": [
                {
                    "word": w.text,
                    "start": round(w.start * second, 3),
                    "end": round(w.end * second, 3),
                    "confidence": round(w.score, 4),
                }
                for w in found.words
            ],
        }

    def uncertainty(self, logits: Tensor, batch: Batch, found: Sequence[Prediction]) -> list[float]:
        """1 minus the mean confidence of the words; 1 where none was heard."""
        heard = [[w["confidence"] for w in p["words"]] for p in found]
        return [1 - float(np.mean(scores)) if scores else 1.0 for scores in heard]

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """``wer`` and ``cer`` over all words and characters, ``char_accuracy`` (1 - cer), ``exact`` recordings."""
        return rates(self._edits(predictions, labels))

    def rescored(
        self, predictions: Sequence[Prediction], labels: Sequence[Any]
    ) -> Callable[[Sequence[int]], dict[str, float]]:
        """`metrics` of drawn recordings from the edits of each."""
        every = self._edits(predictions, labels)
        return lambda drawn: rates(every[np.asarray(drawn)])

    def _edits(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Edits:
        truth = [self.read_label({"text": label}, "text") for label in labels]
        return edits(truth, [p["text"] for p in predictions])

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Reliability | None:
        """Of words that were heard."""
        sure = [w["confidence"] for p in predictions for w in p["words"]]
        pairs = zip(labels, predictions, strict=True)
        right = [v for y, p in pairs for v in words_right(self.read_label({"text": y}, "text"), p["text"])]
        return "words heard", sure, right

    def blind(self, labels: Sequence[Any]) -> tuple[str, list[Prediction]]:
        """Always the most common transcript."""
        most = Counter(self.read_label({"text": label}, "text") for label in labels).most_common(1)[0][0]
        return f"always hearing {shortened(most)}", [{"text": most}] * len(labels)

    def targets(self, prediction: Prediction, of: Any = None) -> list[Target]:
        """Every word, or the one numbered `of`."""
        return word_targets(prediction, of)

    def mistake(self, prediction: Prediction, label: Any) -> tuple[str, Any] | None:
        """A word that was not said."""
        return word_mistake(self.read_label({"text": label}, "text"), prediction["text"])

    def target(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Log-likelihood of a word in its own frames; of the best symbols of all frames without `of`."""
        logs = logits.float().log_softmax(-1)
        if of is None:
            kept = inside(frame_counts(self.model, batch), logs.shape[1])
            return (logs.max(-1).values * kept).sum(1)
        modality: Any = self.modality
        first = max(0, int(of["start"] / modality.frame_seconds) - 1)
        last = min(logs.shape[1], round(of["end"] / modality.frame_seconds) + 1)
        ids = torch.tensor(self.spelling.encode(of["word"])).expand(len(logs), -1)
        num = torch.full((len(logs),), last - first)
        lengths = torch.full((len(logs),), ids.shape[1])
        part = logs[:, first:last].transpose(0, 1)
        return -F.ctc_loss(part, ids, num, lengths, blank=self.spelling.blank, reduction="none", zero_infinity=True)

    def answer(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Probability of the word in its own frames."""
        return self.target(logits, batch, of=of).exp()


def _unread(decoder: str, lm: str | None) -> Sequence[str]:
    """Options of decoding that nothing reads."""
    return _DECODING if decoder == "greedy" else () if lm else _DECODING[2:]

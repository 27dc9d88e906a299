"""Speed on sound beside Hugging Face Trainer and pipeline: same model, same recordings, same threads, sides in turn.

    python benchmarks/speech_speed.py wav2vec2 [--repeats 3] [--data ../shared/data]
    python benchmarks/speech_speed.py ctc
    python benchmarks/speech_speed.py frozen
    python benchmarks/speech_speed.py predict [--files]

`wav2vec2` pre-trains a wav2vec 2.0 of 6 layers x 192, its convolutions 128 wide, on pieces of up to 6 seconds of
barista_speech, batch 8; the peer is `Wav2Vec2ForPreTraining` with the masks and negatives of transformers' own
example. `ctc` fine-tunes that architecture on the transcripts of fsdd_strings, batch 16; `frozen` the same with the
encoder frozen, 5 epochs; `predict` transcribes its test recordings, against the pipeline with batches of 32. Counted
are seconds of sound a second. The peer's recordings are decoded and normalised before its clock runs, unless
`--files` gives the pipeline the names of the files as pretune gets them (it needs ffmpeg); its first steps are not
counted. pretune's `ctc` counts from the first step on, `frozen` also the decoding and the features.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from speed import fit_rate, in_turn, verdict

HERE = Path(__file__).parent
GOALS = {"wav2vec2": 2.0, "ctc": 2.0, "frozen": 8.0, "predict": 2.5}
EPOCHS = {"ctc": 1, "frozen": 5}
WARM_UP = 3


def pieces(data: Path) -> Any:
    """Pieces of up to 6 seconds, as both sides get them."""
    from pretune.modalities.audio import Audio
    from pretune.pretraining import cache_folder
    from pretune.wave_corpus import Pieces

    modality = Audio()
    corpus = modality.corpus(str(data / "barista_speech/manifest.csv"), cache=cache_folder(None), split="all")
    return Pieces(corpus, 6 * modality.rate)


def strings(data: Path, part: str) -> list[dict[str, Any]]:
    """Recordings of spoken digits with their transcripts."""
    table = pd.read_csv(data / "fsdd_strings/manifest.csv")
    table = table[table.split == part]
    return [{"audio": str(data / "fsdd_strings" / p), "text": t} for p, t in zip(table.path, table.text, strict=True)]


def encoder_folder() -> str:
    """A random encoder 6 x 192: speed does not depend on weights."""
    from transformers import AutoModel, set_seed

    from pretune.modalities.audio import Audio

    folder = Path(tempfile.gettempdir()) / "pretune-benchmark-wav2vec2"
    modality = Audio()
    set_seed(0)
    AutoModel.from_config(modality.config("mini", "wav2vec2")).save_pretrained(folder)
    modality.save(folder)
    return str(folder)


# -- pretune -----------------------------------------------------------------------------------------------------------


def ours_wav2vec2(data: Path, steps: int) -> float:
    """Of `fit` with the objective, after the first steps."""
    from transformers import AutoModel, set_seed

    from pretune import encoder, machine, registry
    from pretune.modalities.audio import Audio

    objective: Any = registry.build("objective", "wav2vec2")
    modality, examples = Audio(), pieces(data)
    set_seed(0)
    model, _ = encoder.make(AutoModel, modality.config("mini", "wav2vec2"))
    machine.fast_attention(model)
    objective.setup(model, modality)
    lengths = objective.lengths(examples)
    return fit_rate(objective, examples, steps + WARM_UP, after=WARM_UP, batch_size=8, lengths=lengths)


def ours_tuned(data: Path, what: str) -> float:
    """Of `finetune`."""
    import pretune

    records = strings(data, "train")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = pretune.finetune(
            records, out=f"{folder}/run", from_=encoder_folder(), modality="audio", task="ctc",
            strategy="full" if what == "ctc" else "freeze", budget=f"{EPOCHS[what]}epochs", min_steps=1,
            valid_rate=0.0, batch_size=16,
        )  # fmt: skip
        whole = time.perf_counter() - began
    assert result.fitted is not None
    return EPOCHS[what] * duration(records) / (result.fitted.seconds if what == "ctc" else whole)


def duration(records: list[dict[str, Any]]) -> float:
    """Seconds of sound."""
    from pretune.audio_reading import header

    return sum(header(r["audio"]).seconds for r in records)


# -- transformers ------------------------------------------------------------------------------------------------------


def trainer(model: Any, rows: Any, collate: Any, batch: int, **length: Any) -> float:
    """Seconds of training after the warm-up; the same settings as benchmarks/peers.py, and bf16 on a GPU."""
    from transformers import Trainer, TrainingArguments

    from peers import Clock

    clock = Clock(WARM_UP if "max_steps" in length else 0)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=batch, bf16=torch.cuda.is_available(), report_to="none",
            save_strategy="no", eval_strategy="no", disable_tqdm=True, logging_strategy="no",
            remove_unused_columns=False, **length,
        )  # fmt: skip
        Trainer(model=model, args=settings, train_dataset=rows, data_collator=collate, callbacks=[clock]).train()
    return clock.seconds


def peer_wav2vec2(data: Path, steps: int) -> float:
    """`Wav2Vec2ForPreTraining`, masks and negatives as in run_wav2vec2_pretraining_no_trainer.py."""
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining, set_seed
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

    from pretune.modalities.audio import Audio

    set_seed(0)
    model = Wav2Vec2ForPreTraining(Audio().config("mini", "wav2vec2"))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    examples, heard = pieces(data), [0.0]
    order = np.random.default_rng(0).permutation(len(examples))[: 8 * (steps + WARM_UP)]
    rows = [{"input_values": extractor(examples[int(i)]["input_values"] / 2**15, sampling_rate=16_000).input_values[0]}
            for i in order]  # fmt: skip

    def collate(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        batch = dict(extractor.pad(chosen, padding=True, return_tensors="pt"))
        frames = int(model._get_feat_extract_output_lengths(batch["input_values"].shape[1]))
        inside = model._get_feature_vector_attention_mask(frames, batch["attention_mask"])
        mask = _compute_mask_indices((len(chosen), frames), 0.65, 10, attention_mask=inside, min_masks=2)
        negatives = _sample_negative_indices((len(chosen), frames), model.config.num_negatives, mask)
        heard.append(sum(len(c["input_values"]) for c in chosen) / 16_000)
        tensors = {"mask_time_indices": torch.tensor(mask), "sampled_negative_indices": torch.tensor(negatives)}
        return batch | tensors

    seconds = trainer(model, rows, collate, 8, max_steps=steps + WARM_UP)
    return sum(heard[1 + WARM_UP : 1 + WARM_UP + steps]) / seconds


def peer_tuned(data: Path, what: str) -> float:
    """`Wav2Vec2ForCTC` with padding to the longest of a batch, as in transformers' speech recognition example."""
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    from pretune.audio_reading import samples
    from pretune.spelling import Spelling

    records, spelling = strings(data, "train"), Spelling()
    spelling.learn(r["text"] for r in records)
    model = Wav2Vec2ForCTC.from_pretrained(
        encoder_folder(), vocab_size=len(spelling.symbols), pad_token_id=0, apply_spec_augment=False
    )
    if what == "frozen":
        model.freeze_base_model()
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    rows = []
    for record in records:
        wave = samples(record["audio"], 16_000) / 2**15
        found = extractor(wave, sampling_rate=16_000).input_values[0]
        rows.append({"input_values": found, "labels": spelling.encode(record["text"])})

    def collate(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        batch = dict(extractor.pad([{"input_values": c["input_values"]} for c in chosen], return_tensors="pt"))
        labels = [torch.tensor(c["labels"]) for c in chosen]
        return batch | {"labels": torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)}

    return duration(records) / trainer(model, rows, collate, 16, num_train_epochs=1)


# -- prediction --------------------------------------------------------------------------------------------------------


def predict(
    data: Path, repeats: int, clock: Callable[[], float], *, from_files: bool
) -> tuple[list[float], list[float]]:
    """Seconds of sound a second of pipeline and of `Predictor.predict`, in turn."""
    from transformers import Wav2Vec2ForCTC, logging, pipeline

    import pretune
    from pretune.spelling import Spelling

    logging.set_verbosity_error()
    records, spelling = strings(data, "test"), Spelling()
    spelling.learn(r["text"] for r in records)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        model = Wav2Vec2ForCTC.from_pretrained(encoder_folder(), vocab_size=len(spelling.symbols), pad_token_id=0)
        model.save_pretrained(folder / "model")
        spelling.save(folder / "model")
        ours_extractor = Path(encoder_folder(), "preprocessor_config.json").read_text()
        (folder / "model/preprocessor_config.json").write_text(ours_extractor)
        (folder / "recipe.yaml").write_text("{task: ctc, modality: audio}\n")
        theirs = pipeline("automatic-speech-recognition", str(folder / "model"), batch_size=32)
        ours = pretune.load(folder)
    sound, files = duration(records), [r["audio"] for r in records]
    waves = [{"raw": ours.modality.samples(f) / 2**15, "sampling_rate": 16_000} for f in files]  # type: ignore[attr-defined]
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        began = clock()
        theirs(list(files) if from_files else [dict(w) for w in waves])
        between = clock()
        ours.predict([{"audio": f} for f in files])
        found[0].append(sound / (between - began))
        found[1].append(sound / (clock() - between))
    return found[0][1:], found[1][1:]


def side(options: argparse.Namespace) -> float:
    """One measurement of one side."""
    if options.what == "wav2vec2":
        return (ours_wav2vec2 if options.side == "pretune" else peer_wav2vec2)(options.data, options.steps)
    return (ours_tuned if options.side == "pretune" else peer_tuned)(options.data, options.what)


def main() -> None:
    """Runs both sides in turn and prints medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(GOALS))
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="predict: time of the processor, where others use it too")
    parser.add_argument("--files", action="store_true", help="predict: the pipeline, too, gets the names of files")
    parser.add_argument("--steps", type=int, default=15, help="timed steps of wav2vec2")
    parser.add_argument("--side", choices=["pretune", "transformers"], help="one side, once (used by this program)")
    options = parser.parse_args()
    if options.side:
        with contextlib.redirect_stdout(sys.stderr):
            found = side(options)
        print(json.dumps(found))
        return
    if options.what == "predict":
        clock = time.process_time if options.cpu else time.perf_counter
        found = predict(options.data, options.repeats, clock, from_files=options.files)
        rates = dict(zip(("transformers", "pretune"), found, strict=True))
    else:
        words = [__file__, options.what, "--data", str(options.data), "--steps", str(options.steps), "--side"]
        rates = in_turn({name: [*words, name] for name in ("transformers", "pretune")}, options.repeats)
    print(verdict(options.what, "s/s", rates, peer="transformers", goal=GOALS[options.what]))


if __name__ == "__main__":
    main()

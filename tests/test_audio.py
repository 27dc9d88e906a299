"""The audio modality: what models read, corpora of recordings, speakers, and equality with transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoFeatureExtractor, AutoModel, Wav2Vec2FeatureExtractor, WavLMConfig, pipeline

import pretune
from planted_sounds import RATE, TONES, classed, spoken, tone
from pretune.cli import main
from pretune.errors import ConfigError, DataError, ModelError
from pretune.modalities.audio import Audio
from pretune.transcript_errors import edits, rates
from pretune.wave_corpus import Pieces

FAMILIES = ("wav2vec2-bert", "wav2vec2")


def ready(family: str = "wav2vec2-bert", **options: object) -> Audio:
    found = Audio(**options)
    found.config("tiny", family)
    return found


def waves(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(n) * 3000).astype(np.int16) for n in lengths]


@pytest.fixture
def speakers(tmp_path: Path) -> Path:
    """A folder of 40 tones by four speakers, with a manifest that has splits."""
    rng = np.random.default_rng(0)
    rows = ["path,label,speaker,split"]
    for i in range(40):
        name = list(TONES)[i % 2]
        soundfile.write(tmp_path / f"{i}.wav", tone(TONES[name], 0.3, rng), RATE)
        rows.append(f"{i}.wav,{name},{'abcd'[i // 10]},{'test' if i >= 30 else 'train'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "manifest.csv"


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_are_those_of_the_saved_feature_extractor(family, tmp_path):
    modality = ready(family, frame_ms=20 if family == "wav2vec2-bert" else 40)
    modality.save(tmp_path)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    examples = [{"input_values": w} for w in waves(16_000, 7_040, 12_400)]
    batch = modality.pad(examples)
    theirs = extractor(
        [e["input_values"] / 2**15 for e in examples], sampling_rate=RATE, padding=True, return_tensors="pt"
    )
    name = modality.main_input
    inside = batch["attention_mask"].bool()
    torch.testing.assert_close(batch[name][inside], theirs[name].float()[inside], rtol=1e-3, atol=2e-4)
    assert torch.equal(batch["attention_mask"], theirs["attention_mask"].long())
    assert batch["seconds"].tolist() == pytest.approx([1.0, 0.44, 0.775])
    again = Audio().load(str(tmp_path))
    assert torch.equal(again.pad(examples)[name], batch[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_sound_is_no_model_of_text(family, tmp_path):
    modality = ready(family)
    AutoModel.from_config(modality.config("tiny", family)).save_pretrained(tmp_path / "model")
    modality.save(tmp_path / "model")
    texts = [{"text": "a b", "label": "x"}, {"text": "c d", "label": "y"}] * 8
    with pytest.raises(ModelError, match=r"has no tokenizer that can be used.*of images or sound, give --modality"):
        pretune.finetune(texts, from_=str(tmp_path / "model"), out=str(tmp_path / "run"), budget="1steps")


@pytest.mark.parametrize("option", ["normalise=bins", "frame_ms=40"])
def test_what_a_checkpoint_decides_is_refused_even_where_it_is_the_default(option, tmp_path, capsys):
    words = f"pretrain --modality audio --data {tmp_path} --from {tmp_path} --out {tmp_path}/run --modality.{option}"
    assert main(words.split()) == 2
    said = f"--modality.{option.replace('=', ' ')} has no effect with --from {tmp_path}: the checkpoint decides"
    assert said in capsys.readouterr().err


def test_options_that_only_a_split_reads_are_refused_without_one(tmp_path):
    records = classed(8)
    modality = ready()
    AutoModel.from_config(modality.config("tiny", "wav2vec2-bert")).save_pretrained(tmp_path / "model")
    modality.save(tmp_path / "model")
    shared = {"name": "audio", "shared_speakers": True}
    for more in ({"valid": records}, {"valid_rate": 0.0}):
        with pytest.raises(ConfigError, match="shared_speakers has no effect where no validation data is split off"):
            pretune.finetune(
                records,
                from_=str(tmp_path / "model"),
                out=str(tmp_path / "run"),
                modality=shared,
                budget="1steps",
                **more,
            )


def test_a_mean_spectrum_that_stays_gives_the_states_of_spectra_without_any_scale(tmp_path):
    modality = ready(frame_ms=20, normalise="recording")
    encoder = AutoModel.from_config(modality.config("tiny", "wav2vec2-bert")).eval()
    modality.save(tmp_path)
    again = Audio().load(str(tmp_path))
    assert again.normalise == "recording"
    examples = [{"input_values": w} for w in waves(16_000, 7_040, 12_400)]
    batch = again.pad(examples)
    theirs = AutoFeatureExtractor.from_pretrained(tmp_path)(
        [e["input_values"] / 2**15 for e in examples], sampling_rate=RATE, padding=True, return_tensors="pt",
        do_normalize_per_mel_bins=False,
    )  # fmt: skip
    features, own = batch["input_features"], batch["attention_mask"].bool()
    assert torch.equal(own, theirs["attention_mask"].bool())
    assert features[0].mean() == pytest.approx(0, abs=1e-5)
    assert features[0].std() == pytest.approx(1, abs=1e-3)
    assert features[0].mean(0).std() > 0.1, "bins differ in their mean"
    with torch.no_grad():
        mine, raw = (
            encoder(input_features=x, attention_mask=theirs["attention_mask"]).last_hidden_state[own]
            for x in (features, theirs["input_features"].float())
        )
    torch.testing.assert_close(mine, raw, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("normalise", ["bins", "recording"])
def test_what_lies_beyond_the_end_does_not_change_the_features(normalise):
    modality = ready(normalise=normalise)
    one, two = ({"input_values": w} for w in waves(8000, 16_000))
    alone, together = modality.pad([one]), modality.pad([one, two])
    frames = alone["input_features"].shape[1]
    torch.testing.assert_close(together["input_features"][0, :frames], alone["input_features"][0], rtol=1e-4, atol=1e-4)
    assert not together["input_features"][0, frames:].any()


def test_hidden_spans_and_bands_are_the_mean_of_what_is_read():
    for family in FAMILIES:
        modality = ready(family, augmentation="strong")
        example = {"input_values": waves(16_000)[0]}
        rng = np.random.default_rng(3)
        changed = modality.augment([example], rng)
        batch = modality.pad(changed)
        values = batch[modality.main_input][0]
        start, end = changed[0]["hidden_spans"][0]
        length = int(batch["attention_mask"].sum())
        assert not values[int(start * length) : int(end * length)].any()
        assert values.any()
        assert "hidden_spans" not in example
    assert modality.augment([example], np.random.default_rng(3))[0]["hidden_spans"].tolist() == (
        changed[0]["hidden_spans"].tolist()
    )
    plain = ready(augmentation="none")
    assert plain.augment([example], rng) == [example]


def test_a_corpus_loses_no_sample_and_holds_out_whole_recordings(tmp_path):
    found = waves(40_000, 5_000, 100_001, 16_000, *[3_000] * 6)
    for i, w in enumerate(found):
        soundfile.write(tmp_path / f"{i}.wav", w if i != 3 else found[1], RATE)
    found[3] = found[1]
    modality = ready(piece_seconds=1)
    parts = {s: modality.corpus(str(tmp_path), cache=tmp_path / "cache", split=s) for s in ("all", "train", "valid")}
    whole = Pieces(parts["all"], RATE)
    assert max(whole.lengths) <= RATE
    assert np.array_equal(np.concatenate([e["input_values"] for e in whole]), np.concatenate(found))
    assert [len(e["input_values"]) for e in whole] == whole.lengths
    assert sorted(parts["train"].lengths.tolist() + parts["valid"].lengths.tolist()) == sorted(map(len, found))
    held = {Pieces(parts["valid"], 10**9)[i]["input_values"].tobytes() for i in range(len(parts["valid"].lengths))}
    seen = {Pieces(parts["train"], 10**9)[i]["input_values"].tobytes() for i in range(len(parts["train"].lengths))}
    assert held
    assert not held & seen
    assert len(parts["all"]) == round(sum(map(len, found)) / RATE)


def test_long_recordings_are_cut_and_counted():
    modality = ready(max_seconds=1)
    examples = modality.process_many(
        [{"audio": {"array": np.zeros(n, np.float32), "sampling_rate": 8000}} for n in (4000, 12_000)]
    )
    assert [len(e["input_values"]) for e in examples] == [8000, 16_000]
    assert modality.num_truncated == 1


def test_options_that_cannot_work_are_refused(tmp_path):
    for options in (
        {"frame_ms": 30},
        {"max_seconds": 0},
        {"piece_seconds": 1e9},
        {"augmentation": "some"},
        {"normalise": "all"},
    ):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Audio(**options)
    with pytest.raises(ConfigError, match="frame_ms has no effect on wav2vec2"):
        Audio(frame_ms=20).config("tiny", "wav2vec2")
    with pytest.raises(ConfigError, match="normalise has no effect on hubert"):
        Audio(normalise="recording").config("tiny", "hubert")
    with pytest.raises(ConfigError, match="Did you mean"):
        Audio().config("tiny", "wav2vec")
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "WhisperFeatureExtractor"})
    )
    with pytest.raises(ModelError, match="WhisperFeatureExtractor"):
        Audio().load(str(tmp_path))
    with pytest.raises(ModelError, match="no feature extractor"):
        Audio().load(str(tmp_path / "nothing"))


def tuned(data: object, out: Path, **options: object) -> pretune.RunResult:
    given: dict[str, object] = {
        "scratch": True, "size": "tiny", "modality": "audio", "budget": "12steps", "batch_size": 8,
        "num_validations": 1,
    }  # fmt: skip
    return pretune.finetune(data, out=str(out), **{**given, **options})


def test_validation_never_has_a_speaker_of_training(speakers, tmp_path, capsys):
    tuned(f"{speakers}:train", tmp_path / "run", test=f"{speakers}:test", lr=3e-3)
    said = capsys.readouterr().err
    assert "validation holds out whole speakers, of 3" in said
    assert "20 labelled records, 10 for validation" in said
    assert "speakers of the test data" not in said
    tuned(
        str(speakers), tmp_path / "both", test=f"{speakers}:test", modality={"name": "audio", "shared_speakers": True}
    )
    said = capsys.readouterr().err
    assert "36 labelled records, 4 for validation" in said
    lines = speakers.read_text().splitlines()
    speakers.write_text("\n".join([lines[0], *lines[1:11]]) + "\n")
    with pytest.raises(DataError, match=r'speaker "a".*shared_speakers'):
        tuned(str(speakers), tmp_path / "one")


def test_speakers_in_both_are_said(speakers, tmp_path, capsys):
    tuned(f"{speakers}:train", tmp_path / "run", test=str(speakers), valid_rate=0, num_validations=10)
    assert "3 speakers of the test data are also in the training data (a, b, c)" in capsys.readouterr().err


def test_a_split_is_a_column_of_a_table(speakers, tmp_path):
    with pytest.raises(DataError, match=r'no rows of the split "tets"; it has: test, train. Did you mean "test"'):
        tuned(f"{speakers}:tets", tmp_path / "run")
    plain = speakers.with_name("plain.csv")
    plain.write_text("path,label\n0.wav,low\n")
    with pytest.raises(DataError, match='has no split "train", for it has no column "split"'):
        tuned(f"{plain}:train", tmp_path / "run")


def test_frames_last_as_long_as_the_encoder_makes_them(tmp_path):
    usual, coarse = Audio(), Audio(frame_ms=20)
    assert (usual.frame_seconds, coarse.frame_seconds) == (0.04, 0.02)
    usual.config("tiny", "hubert")
    assert (usual.frame_samples, usual.frame_seconds) == (320, 0.02)
    config = usual.config("tiny", "wav2vec2")
    config.conv_stride = [5, 2, 2, 2, 2, 2, 4]
    config.save_pretrained(tmp_path)
    usual.save(tmp_path)
    assert Audio().load(str(tmp_path)).frame_seconds == 0.04
    Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(tmp_path)
    assert Audio().load(str(tmp_path)).frame_seconds == 0.08
    (tmp_path / "config.json").unlink()
    assert Audio().load(str(tmp_path)).frame_samples == 320


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_equal_those_of_transformers(family, tmp_path):
    wide = {"name": "audio", "frame_ms": 20} if family == "wav2vec2-bert" else "audio"
    records = classed(12)
    common = {"family": family, "modality": wide, "valid_rate": 0, "num_validations": 10, "lr": 3e-3}
    run = tuned(records, tmp_path / "class", **common).path
    sounds = [r["audio"]["array"] for r in records]
    theirs = pipeline("audio-classification", str(run / "model"), top_k=2)
    for mine, other in zip(pretune.load(run).predict(records), theirs(sounds), strict=True):
        assert mine["probabilities"] == pytest.approx({o["label"]: o["score"] for o in other}, abs=2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_transcripts_equal_those_of_transformers(family, tmp_path):
    wide = {"name": "audio", "frame_ms": 20} if family == "wav2vec2-bert" else "audio"
    records = spoken(16)
    run = tuned(
        records, tmp_path / "ctc", task="ctc", family=family, modality=wide, valid_rate=0, num_validations=10,
    ).path  # fmt: skip
    predictor = pretune.load(run)
    model = predictor.task.model.cpu()
    batch = predictor.modality.pad(predictor.task.process(records))
    with torch.no_grad():  # a head that says many things, which so few steps cannot teach
        inputs = {k: batch[k] for k in (predictor.modality.main_input, "attention_mask")}
        states = model.base_model(**inputs).last_hidden_state
        model.lm_head.weight.normal_(std=10, generator=torch.Generator().manual_seed(0))
        model.lm_head.bias.copy_(-model.lm_head.weight @ states.mean((0, 1)))
        model.lm_head.bias[-1] = -1e4  # transformers prints the unknown symbol
    model.save_pretrained(run / "model")
    theirs = pipeline("automatic-speech-recognition", str(run / "model"))
    mine = [predictor.predict([r])[0]["text"] for r in records]
    assert len(set(mine)) > 3
    said = [theirs(r["audio"]["array"])["text"] for r in records]
    said = [" ".join(text.split()) for text in said]  # it keeps empty words
    assert rates(edits(said, mine))["cer"] < 0.02  # such a head has near ties, which rounding decides


@pytest.mark.filterwarnings("ignore:Support for mismatched")  # inside of WavLM
@pytest.mark.parametrize("objective", ["masked_audio", "wav2vec2", "contrastive"])
def test_pre_training_continues_from_other_speech_models(objective, tmp_path):
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(tmp_path / "wavlm")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "wavlm")
    spec = {"name": objective} | ({"num_clusters": 4} if objective == "masked_audio" else {})
    run = pretune.pretrain(
        [{"audio": r["audio"]} for r in classed(40)], out=str(tmp_path / "run"), from_=str(tmp_path / "wavlm"),
        modality="audio", objective=spec, budget="2steps", batch_size=4, num_validations=1,
    )  # fmt: skip
    found = AutoModel.from_pretrained(run.path / "model")
    assert found.config.model_type == "wavlm"
    assert not AutoFeatureExtractor.from_pretrained(run.path / "model").do_normalize
    assert np.isfinite(run.metrics["loss"])
    assert (run.path / "pictures").is_dir() is (objective == "masked_audio")

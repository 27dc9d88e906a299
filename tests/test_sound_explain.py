"""Explanations of sound name the second and the band that decide, sum as they should, and hide what they say."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from rich.console import Console
from scipy.io import wavfile

from pretune import mel, run
from pretune.errors import ConfigError
from pretune.explainers.attention import Attention
from pretune.explainers.integrated_gradients import IntegratedGradients
from pretune.explainers.occlusion import Occlusion
from pretune.explaining import explain_records
from pretune.explanation import page
from pretune.faithfulness import faithfulness
from pretune.heat_map import write_picture
from pretune.modalities.audio import Audio
from pretune.perturbing import per_pass
from pretune.predicting import Predictor
from pretune.sound_pieces import sounds_of
from pretune.sound_plane import BANDS, WavePlane, cells_of, window_edges
from pretune.tasks.base import Target
from pretune.tasks.classification import Classification

RATE, SECONDS = 16_000, 0.8
LENGTH = 0.08
BURSTS = {  # start in seconds, frequencies in Hz from its start to its end; each lasts 0.08 s and lies in one cell
    "up": (0.297, (2800.0, 3800.0)),
    "down": (0.297, (3800.0, 2800.0)),
    "low": (0.197, (450.0, 450.0)),
    "high": (0.59, (3200.0, 3200.0)),
}
CELLS = {"up": (3, 5), "down": (3, 5), "low": (2, 1), "high": (6, 5)}


# A spectrum is normalised over the recording, so that a burst also shows, weakly, as quiet where it is not. Bursts that
# rise and fall have the same mean spectrum: nothing but the burst tells them apart.
LABELS = {"wav2vec2-bert": ("up", "down"), "wav2vec2": ("low", "high", "none")}


def clip(label, rng):
    """Noise with the burst of a label, or with none."""
    wave = rng.normal(0, 0.02, round(SECONDS * RATE))
    if label in BURSTS:
        start, pitches = BURSTS[label]
        first, wide = round(start * RATE), round(LENGTH * RATE)
        phase = 2 * np.pi * np.cumsum(np.linspace(*pitches, wide)) / RATE + rng.uniform(0, 6)
        wave[first : first + wide] += 0.3 * np.hanning(wide) * np.sin(phase)
    return {"audio": {"array": np.round(wave * 2**15).astype(np.int16), "sampling_rate": RATE}, "label": label}


def planted(num, labels, seed=0):
    rng = np.random.default_rng(seed)
    return [clip(labels[i % len(labels)], rng) for i in range(num)]


def trained(family, steps):
    """A small model, trained on new clips at every step, parts of which are hidden from it as explainers do."""
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    modality, task, labels = Audio(augmentation="strong"), Classification(), LABELS[family]
    task.learn_labels(list(labels))
    config = modality.config("tiny", family)
    config.num_hidden_layers, config.conv_dim = 1, [32] * 7
    task.setup_from(config, modality)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    task.train()
    for step in range(steps):
        rows = planted(16, labels, 1000 + step)
        examples = [task.labelled(e, r["label"]) for e, r in zip(modality.process_many(rows), rows, strict=True)]
        optimizer.zero_grad()
        task(task.collate(examples, rng))["loss"].backward()
        optimizer.step()
    return Predictor(task)


@pytest.fixture(scope="module")
def spectral():
    return trained("wav2vec2-bert", 80)


@pytest.fixture(scope="module")
def waveform():
    return trained("wav2vec2", 60)


@pytest.fixture(params=["spectral", "waveform"])
def heard(request):
    return request.getfixturevalue(request.param)


def rows_of(predictor, num=3):
    rows = planted(6, LABELS[predictor.task.model.config.model_type], seed=9)
    return [r for r in rows if r["label"] != "none"][:num]


def pieces_of(predictor, row):
    task = predictor.task
    return sounds_of(task, row, task.process([row])[0])


@pytest.mark.parametrize("explainer", [IntegratedGradients(), Occlusion()], ids=lambda e: e.name)
def test_the_burst_ranks_first_and_is_faithful(heard, explainer):
    rows = rows_of(heard)
    found = explain_records(heard, rows, explainer=explainer, num_random=20)
    labels = [r["label"] for r in rows]
    assert [e.target for e in found] == labels
    assert [np.unravel_index(e.cells.argmax(), e.cells.shape) for e in found] == [CELLS[label] for label in labels]
    assert all(e.scores.shape[1] == mel.BINS for e in found)
    tested = [e.faithfulness for e in found]
    assert all(f.comprehensiveness > f.random_comprehensiveness.high for f in tested)
    assert all("sufficiency" in f.passed for f in tested)
    assert sum(f.better_than_random for f in tested) >= 2


def test_the_opposite_order_is_not_faithful(heard):
    row = rows_of(heard)[0]
    (found,) = explain_records(heard, [row], explainer="occlusion", num_random=0)
    index = heard.task.labels.index(found.target)
    wrong = faithfulness(heard.task, pieces_of(heard, row), (-found.cells).flatten().tolist(), of=index)
    assert "No better than random" in wrong.verdict


def test_gradients_sum_to_the_gain_over_silence(heard):
    explainer = IntegratedGradients(n_steps=128)
    (found,) = explain_records(heard, rows_of(heard, 1), explainer=explainer, num_random=0)
    task = heard.task
    batch = pieces_of(heard, rows_of(heard, 1)[0]).batch
    name = task.modality.main_input
    with torch.no_grad():
        gain = task(batch)["logits"] - task(batch | {name: torch.zeros_like(batch[name])})["logits"]
    expected = float(gain[0, task.labels.index(found.target)])
    assert abs(expected) > 0.1
    assert found.total == pytest.approx(expected, rel=0.03)
    assert found.delta == pytest.approx(found.total - expected, abs=1e-3)


def test_occlusion_equals_hiding_each_cell(heard):
    (found,) = explain_records(heard, rows_of(heard, 1), explainer="occlusion", num_random=0)
    task, pieces = heard.task, pieces_of(heard, rows_of(heard, 1)[0])
    index = task.labels.index(found.target)
    with torch.no_grad():
        logits = [
            float(task(pieces.batch | {task.modality.main_input: x[None]})["logits"][0, index])
            for x in pieces.hiding(task, [frozenset(), frozenset({0}), frozenset({len(pieces) - 1})])
        ]
    assert found.cells[0, 0] == pytest.approx(logits[0] - logits[1], abs=1e-4)
    assert found.cells[-1, -1] == pytest.approx(logits[0] - logits[2], abs=1e-4)
    assert pieces.merged(torch.from_numpy(found.scores)) == pytest.approx(found.cells.flatten().tolist())


def test_rollout_by_hand(heard):
    task = heard.task
    batch = pieces_of(heard, rows_of(heard, 1)[0]).batch
    scores = Attention().scores(task, batch)
    task.model.set_attn_implementation("eager")
    name = task.modality.main_input
    with torch.no_grad():
        inputs = {name: batch[name], "attention_mask": batch["attention_mask"]}
        (layer,) = task.model(**inputs, output_attentions=True).attentions
    by_frame = (0.5 * (layer[0].mean(0) + torch.eye(layer.shape[-1]))).mean(0)
    assert float(scores.sum()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(scores, scores[:, :1].expand(-1, mel.BINS))  # time alone
    rows = len(scores) // len(by_frame)
    inner = scores.sum(1)[: 2 * rows].reshape(2, rows).sum(1)
    assert torch.allclose(inner, by_frame[:2], atol=2e-3)


def test_hiding_nothing_changes_nothing_and_hiding_all_is_silence(heard):
    pieces = pieces_of(heard, rows_of(heard, 1)[0])
    nothing, everything = pieces.hiding(heard.task, [frozenset(), frozenset(range(len(pieces)))])
    given = pieces.batch[heard.task.modality.main_input][0]
    assert torch.equal(nothing, given)
    assert float(everything.abs().max()) < 1e-5 * float(given.abs().max())


def test_the_transform_gives_a_waveform_back():
    for samples in (880, 1600, 12_345):
        wave = torch.from_numpy(np.random.default_rng(0).normal(size=(1, samples))).float()
        plane = WavePlane.of(wave, RATE)
        assert torch.allclose(plane.sound(plane.values), wave, atol=1e-5)
        ones = torch.rand(plane.values.shape)
        assert float(plane.placed(ones).sum()) == pytest.approx(float(ones.sum()), rel=1e-5)
        assert plane.placed(ones).shape == (plane.rows, mel.BINS)


def test_a_hidden_cell_is_gone_and_others_stay(waveform):
    (row,) = rows_of(waveform, 1)
    pieces = pieces_of(waveform, row)
    window, band = CELLS[row["label"]]
    (hidden,) = pieces.hiding(waveform.task, [frozenset({window * BANDS + band})])
    whole = pieces.batch["input_values"][0]
    start = BURSTS[row["label"]][0]
    inside = slice(round(start * RATE), round((start + LENGTH) * RATE))
    assert float(hidden[inside].square().sum()) < 0.1 * float(whole[inside].square().sum())
    outside = slice(0, round((start - 0.1) * RATE))
    assert torch.allclose(hidden[outside], whole[outside], atol=1e-5)


def test_hidden_bins_of_a_spectrum_are_the_mean(spectral):
    pieces = pieces_of(spectral, rows_of(spectral, 1)[0])
    (hidden,) = pieces.hiding(spectral.task, [frozenset({BANDS + 2})])
    windows = hidden.reshape(-1, mel.BINS)
    start, end = window_edges(len(windows))[1:3]
    assert (windows[start:end, 20:30] == 0).all()
    changed = windows != pieces.batch["input_features"].reshape(-1, mel.BINS)
    assert changed.sum() == (end - start) * 10


@pytest.mark.parametrize("seconds", [0.01, 0.3, 2.0, 6.0, 30.0])
def test_cells_are_tenths_of_a_second_and_never_too_many(seconds):
    rows = max(1, round(seconds * 100))
    edges = window_edges(rows)
    assert edges[0] == 0
    assert edges[-1] == rows
    assert len(edges) - 1 == min(max(1, round(seconds * 10)), 60)
    cells = cells_of(rows)
    assert torch.equal(cells.unique(), torch.arange((len(edges) - 1) * BANDS))
    assert (cells.diff(dim=0) >= 0).all()


def test_long_recordings_are_taken_some_variants_at_a_time(waveform):
    one_second = pieces_of(waveform, rows_of(waveform, 1)[0]).batch
    assert per_pass(waveform.task, one_second) == 4096 // 80


def test_renders_everywhere(heard, tmp_path):
    found = explain_records(heard, rows_of(heard, 2), explainer="occlusion", num_random=2)
    console = Console(record=True, width=100, force_terminal=True)
    for one in found:
        console.print(one.render())
        content = json.loads(json.dumps(one.to_dict()))
        assert np.allclose(content["scores"], one.cells)
        assert np.shape(content["scores"]) == (len(content["windows"]), len(content["bands"])) == (8, BANDS)
        assert content["windows"][0][0] == 0
        assert content["windows"][-1][1] == one.seconds == SECONDS
    text = console.export_text()
    assert "comprehensiveness" in text
    assert "kHz" in text
    html = page(found)
    assert "http" not in html
    assert html.count("<audio controls") == 2
    rate, samples = wavfile.read(io.BytesIO(base64.b64decode(re.findall(r'data:audio/wav;base64,([^"]+)', html)[0])))
    assert rate == RATE
    assert np.array_equal(samples, rows_of(heard, 1)[0]["audio"]["array"])
    titles = re.findall(r'title="[\d.–]+ s, [^:"]+: ([-+][\d.]+)"', html)
    assert np.allclose([float(t) for t in titles[: found[0].cells.size]], found[0].cells.flatten(), atol=1e-4)
    assert "seconds that decided" in html
    assert "frequencies that decided" in html
    file = write_picture(found, tmp_path / "deep" / "why.png")
    with Image.open(file) as picture:
        assert picture.width > 1000
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.abs(colours - (47, 111, 237)).max(1) < 60).sum() > 500


def test_attention_is_about_time_alone(spectral):
    (found,) = explain_records(spectral, rows_of(spectral, 1), explainer="attention", num_random=0)
    html = page([found])
    assert "seconds with most attention" in html
    assert "frequencies that decided" not in html


def test_a_class_may_be_chosen(spectral):
    (found,) = explain_records(spectral, rows_of(spectral, 1), of="down", num_random=0)
    assert found.target == "down"
    assert found.answer < 0.5
    with pytest.raises(ConfigError, match=r'no label "dwn"'):
        explain_records(spectral, rows_of(spectral, 1), of="dwn", num_random=0)


def test_a_recording_shorter_than_a_window(heard):
    rows = [{"audio": {"array": np.full(40, 900, np.int16), "sampling_rate": RATE}}]
    (found,) = explain_records(heard, rows, explainer="occlusion", num_random=2)
    assert found.seconds == 40 / RATE
    assert found.picture().width == 1000
    assert "<audio" in page([found])


class Speech:
    """Stands in for speech to text: two words with times, each of which is one class."""

    no_target = ""

    def __init__(self, task):
        self._task = task
        self.model, self.modality, self.device = task.model, task.modality, task.device

    def __getattr__(self, name):
        return getattr(self._task, name)

    def __call__(self, batch):
        return self._task(batch)

    def decode(self, logits, batch, examples):
        times = {"low": (0.2, 0.3), "high": (0.6, 0.7)}
        words = [{"word": w, "start": a, "end": b, "confidence": 0.9} for w, (a, b) in times.items()]
        return [{"text": "low high", "words": words} for _ in examples]

    def targets(self, prediction, of=None):
        return [Target(w["word"], w["word"], (i, i + 1)) for i, w in enumerate(prediction["words"])]

    def answer(self, logits, batch, *, of=None):
        return self._task.answer(logits, batch, of=of)


def test_each_word_of_speech_has_its_own_seconds(waveform):
    predictor = SimpleNamespace(task=Speech(waveform.task), roles=waveform.roles, required=waveform.required)
    found = explain_records(predictor, rows_of(waveform, 1), explainer="occlusion", num_random=0)
    assert [e.target for e in found] == ["low", "high"]
    assert [e.span for e in found] == [(0.2, 0.3), (0.6, 0.7)]
    assert found[1].heading.startswith("high (0.60 to 0.70 s): probability")
    assert found[1].to_dict()["span"] == [0.6, 0.7]
    html = page(found)
    assert '<em style="left:25.0%;width:12.5%"><span>low</span>' in html
    assert '<em style="left:75.0%;width:12.5%"><span>high</span>' in html
    assert "──── low" in found[0].body().plain
    marked, plain = (np.asarray(e.picture()) for e in (found[0], replace(found[0], span=None)))
    assert (marked != plain).any()


def test_the_command_writes_every_form(spectral, tmp_path, monkeypatch, capsys):
    file = tmp_path / "burst.wav"
    soundfile.write(file, rows_of(spectral, 1)[0]["audio"]["array"], RATE)
    monkeypatch.setattr(run, "load", lambda *_: spectral)
    for ending in ("html", "png", "json"):
        out = tmp_path / f"why.{ending}"
        assert run.explain_command("ft", str(file), explainer="occlusion", num_random=2, out=str(out)) == 0
        assert out.stat().st_size > 1000
    assert json.loads(Path(tmp_path / "why.json").read_text())[0]["name"] == str(file)
    assert "probability" in capsys.readouterr().out

"""Vectors against one-by-one computation, neighbours against brute force, p-values against the uniform distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ConvNextConfig, ConvNextModel, ViTConfig, ViTModel, Wav2Vec2BertConfig, Wav2Vec2BertModel

import planted
from pretune.embedding import Embedder, unit
from pretune.label_selection import choose
from pretune.length_trend import LengthTrend
from pretune.modalities.audio import Audio
from pretune.modalities.image import Image
from pretune.nearest import Nearest
from pretune.novelty import Novelty, Splits
from pretune.record_statistics import Measured, Statistics
from pretune.reservoir import sampled

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def test_a_text_is_the_mean_of_its_own_tokens():
    task = planted.trained_nothing()
    texts = [r["text"] for r in planted.reviews(7, seed=2)]
    found = Embedder.of(task).records([{"text": t} for t in texts])
    for text, vector in zip(texts, found, strict=True):
        ids = torch.tensor([task.modality.process({"text": text})["input_ids"]])
        with torch.no_grad():
            states = task.model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        np.testing.assert_allclose(vector, states[0].mean(0).numpy(), atol=1e-5)


@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_an_image_is_the_mean_of_its_places(family):
    torch.manual_seed(0)
    if family == "vit":
        model = ViTModel(
            ViTConfig(**SMALL, image_size=16, patch_size=4),
            add_pooling_layer=False,
        )
    else:
        model = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=2))
    modality = Image(image_size=16, channels=3)
    modality.mean, modality.std = [0.5] * 3, [0.2] * 3
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    found = Embedder(model, modality).examples([{"pixel_values": i} for i in images], batch_size=2)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        states = model.eval()((pixels - 0.5) / 0.2).last_hidden_state
    expected = states.mean((2, 3)) if family == "convnext" else states.mean(1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_recording_is_the_mean_of_its_own_frames():
    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(**SMALL, feature_projection_input_dim=320)
    model = Wav2Vec2BertModel(config).eval()
    modality = Audio()
    modality._stride = 4
    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 3000, n).astype(np.int16) for n in (16000, 5000, 9000)]
    found = Embedder(model, modality).examples([{"input_values": w} for w in waves])
    for wave, vector in zip(waves, found, strict=True):
        batch = modality.pad([{"input_values": wave}])
        with torch.no_grad():
            states = model(batch["input_features"], attention_mask=batch["attention_mask"]).last_hidden_state
        np.testing.assert_allclose(vector, states[0].mean(0).numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    return unit(rng.normal(size=(3000, 16)).astype(np.float32))


def test_neighbours_equal_brute_force_and_find_themselves(cloud):
    queries = np.concatenate([cloud[:5], -cloud[5:8]])
    similar, places = Nearest(cloud).find(queries, 6)
    cosines = queries.astype(np.float64) @ cloud.astype(np.float64).T
    np.testing.assert_array_equal(places, np.argsort(-cosines, axis=1)[:, :6])
    np.testing.assert_allclose(similar, np.take_along_axis(cosines, places, 1), atol=1e-6)
    assert places[:5, 0].tolist() == [0, 1, 2, 3, 4]


def test_parts_of_many_queries_and_more_neighbours_than_there_are(cloud):
    few = Nearest(cloud[:3])
    similar, places = few.find(cloud[:2500], 10)
    assert places.shape == (2500, 3)
    np.testing.assert_allclose(similar, np.sort(cloud[:2500] @ cloud[:3].T, axis=1)[:, ::-1], atol=1e-6)


def drawn(rng, number, shift=0.0, lengths=None):
    """Records whose numbers are means over their places: the shorter, the wider they scatter."""
    lengths = rng.integers(20, 200, number).astype(float) if lengths is None else lengths
    parts = {}
    for name, columns in {"order": 2, "first": 8, "last": 8, "vector": 8}.items():
        parts[name] = 1 + (0.2 + 3 / np.sqrt(lengths))[:, None] * rng.normal(size=(number, columns))
    parts["order"][:, 0] += shift
    return Measured(parts, lengths)


def novelty_of(rng, number=400):
    parts = [drawn(rng, n) for n in (number, number // 2, number // 2)]
    pieces = [drawn(rng, len(p), lengths=rng.integers(4, 40, len(p)).astype(float)) for p in parts]
    return Novelty.fitted(Splits(*zip(parts, pieces, strict=True)), 0.95)


def test_p_values_of_records_like_the_pool_are_uniform():
    """Over many pools: P(p <= a) is within the error of the simulation of a, and never above by more."""
    rng, found = np.random.default_rng(1), []
    for _ in range(40):
        novelty, others = novelty_of(rng), drawn(rng, 100)
        found.append(novelty.p_values(novelty.score(others), others.lengths))
    p = np.concatenate(found)
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.02)


def test_short_records_are_not_flagged_for_their_length_and_shifted_ones_are():
    rng = np.random.default_rng(2)
    novelty = novelty_of(rng)
    shortest = drawn(rng, 400, lengths=np.full(400, 6.0))
    assert np.mean([row["p_of_length"] < 0.05 for row in novelty.judge(shortest)]) < 0.12
    assert all(row["flagged"] for row in novelty.judge(drawn(rng, 50, shift=9.0)))
    assert all(row["flagged"] for row in novelty.judge(drawn(rng, 50, shift=-9.0)))
    rows = novelty.judge(drawn(rng, 50))
    assert [r["flagged"] for r in rows] == [r["p"] < 0.05 for r in rows]


def test_a_trend_in_length_is_taken_out():
    rng = np.random.default_rng(3)
    lengths = rng.integers(4, 200, 20_000).astype(float)
    spread = np.sqrt(0.5 + 8 / lengths)
    values = (2 + 3 / np.sqrt(lengths) + spread * rng.normal(size=20_000))[:, None]
    found = LengthTrend.fitted(values, lengths).standardised(values, lengths)[:, 0]
    for low, high in ((4, 10), (10, 50), (50, 200)):
        part = found[(lengths >= low) & (lengths < high)]
        assert part.mean() == pytest.approx(0, abs=0.1)
        assert part.std() == pytest.approx(1, abs=0.1)
    alike = LengthTrend.fitted(values, np.ones(20_000)).standardised(values, np.ones(20_000))
    assert (alike.mean(), alike.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-3))


def test_what_neighbours_tell_does_not_depend_on_the_batch():
    task = planted.trained_nothing()
    embedder = Embedder.of(task)
    examples = embedder.process([{"text": r["text"]} for r in planted.reviews(40, seed=4)])
    statistics = Statistics.learnt(embedder, examples[:30])
    together = statistics.measure(embedder, examples[30:])
    for row, example in enumerate(examples[30:]):
        alone = statistics.measure(embedder, [example])
        for name, part in alone.parts.items():
            np.testing.assert_allclose(part[0], together.parts[name][row], atol=1e-3)


def test_unit_vectors_have_length_one_but_for_zero():
    rows = np.array([[3, 4], [0, 0]], dtype=np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0, 0]], atol=1e-6)


def test_every_item_of_a_stream_is_as_likely():
    counts = np.zeros(30)
    for seed in range(3000):
        kept = sampled(iter(range(30)), 6, seed=seed)
        assert len(set(kept)) == 6
        counts[kept] += 1
    # 600 expected of each, standard deviation 22
    assert np.abs(counts - 600).max() < 90
    assert sampled(range(4), 6, seed=0) == [0, 1, 2, 3]


def test_choice_prefers_an_uncertain_cluster_and_spreads_over_clusters():
    rng = np.random.default_rng(3)
    centres = np.eye(6, dtype=np.float32)
    of = np.repeat(np.arange(6), 100)
    vectors = unit((centres[of] + 0.05 * rng.normal(size=(600, 6))).astype(np.float32))
    sure = np.where(of == 4, 0.9, 0.1) + 0.01 * rng.random(600)
    assert set(of[choose(vectors, sure, 5, seed=0)]) == {4}
    assert sorted(of[choose(vectors, None, 6, seed=0)]) == list(range(6))
    half = np.where(of < 3, 0.9, 0.0) + 0.01 * rng.random(600)
    assert sorted(of[choose(vectors, half, 3, seed=0)]) == [0, 1, 2]
    assert len(set(choose(vectors, sure, 700, seed=0).tolist())) == 600


def test_equal_records_are_chosen_once_each():
    same = np.tile(np.array([[1, 0]], np.float32), (40, 1))
    assert len(set(choose(same, np.full(40, 0.5), 4, seed=0).tolist())) == 4

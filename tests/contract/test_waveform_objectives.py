"""What every objective on sound must do; a new file in objectives/ is tested without a line here."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModel

from objective_contract import assert_a_stopped_run_ends_alike, steps, whole_and_parts
from pretune import encoder, registry
from pretune.audio_config import FAMILIES
from pretune.errors import ConfigError
from pretune.objectives.base import Objective
from pretune.representation import effective_rank
from waveform_stand_in import WIDTH, StandInAudio, StandInWaves

CORPUS = StandInWaves()

SMALL = {
    "masked_audio": {"num_clusters": 8},
    "wav2vec2": {"num_codes": 8, "code_size": 16, "projection_size": 16, "num_negatives": 10},
    "autoencoder": {"code_size": 8, "decoder_width": 4},
    "contrastive": {"projection_size": 16},
}
"""Options that make the steps of a test cheap."""

MORE = [("masked_audio", {"targets": "mel"}), ("autoencoder", {"noise": 0.5})]
"""Other values of options, each tested as an objective of its own."""


def _accepts_sound(name: str) -> bool:
    cls = registry.find("objective", name)
    return issubclass(cls, Objective) and "waveform" in cls.accepts


NAMES = [n for n in registry.names("objective") if _accepts_sound(n)]
VARIANTS = [(n, {}) for n in NAMES] + MORE
IDS = [f"{n}-{'-'.join(map(str, o.values()))}".rstrip("-") for n, o in VARIANTS]
every = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
every_family = pytest.mark.parametrize("family", list(FAMILIES))


def make(name: str, options, family: str = "wav2vec2-bert") -> Objective:
    torch.manual_seed(0)
    wanted = {**SMALL.get(name, {}), **options}
    if wanted.get("targets") == "mel":
        del wanted["num_clusters"]
    objective = registry.build("objective", {"name": name, **wanted})
    modality = StandInAudio()
    objective.check(modality)
    config = modality.config("tiny", family)
    model, _ = encoder.make(objective.auto_class(config.model_type), config)
    model.set_attn_implementation("eager")
    objective.setup(model, modality)
    objective.learn(CORPUS, seed=0)
    return objective.train()


def batch_of(objective: Objective, num: int = 6, seed: int = 0):
    view = objective.examples(CORPUS, seed=0)
    return objective.collate([view[i] for i in range(num)], np.random.default_rng(seed))


@every
@every_family
def test_loss_falls_and_reaches_every_parameter(name, options, family):
    objective = make(name, options, family)
    batch = batch_of(objective)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3, betas=objective.betas)
    losses = []
    for step, logs in steps(objective, batch, optimizer, 15):
        if step == 0:
            absent = [n for n, p in objective.named_parameters() if p.grad is None]
            assert not absent, f"no gradient (breaks DDP): {absent}"
            matrices = [p for p in objective.model.parameters() if p.dim() > 1]
            assert np.mean([float(p.grad.abs().sum() > 0) for p in matrices]) > 0.9
        losses.append(logs["loss"].item())
    assert np.mean(losses[-3:]) < losses[0] - 0.01, losses


@every
@every_family
def test_export_reloads_with_the_same_states(name, options, family, tmp_path):
    objective = make(name, options, family).eval()
    objective(batch_of(objective))
    objective.export().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    view = objective.examples(CORPUS, seed=0)
    examples = [view[i] for i in range(4)]
    batch = objective.modality.pad(examples)
    inputs = {n: batch[n] for n in (objective.modality.main_input, "attention_mask")}
    with torch.no_grad():
        states = again(**inputs).last_hidden_state
        torch.testing.assert_close(objective.export()(**inputs).last_hidden_state, states, atol=1e-5, rtol=1e-4)
        vectors = objective.embeddings(examples)
        alone = objective.embeddings(examples[:1])
    assert vectors.shape == (4, WIDTH)
    assert effective_rank(vectors) > 1
    if objective.modality.spectral:  # group norm of waveforms also sees the silence that fills a batch up
        torch.testing.assert_close(vectors[:1], alone, atol=1e-4, rtol=1e-3)


@every
def test_batch_depends_on_examples_and_rng_and_the_loss_on_the_seed(name, options):
    objective = make(name, options)
    first = batch_of(objective, seed=5)
    np.random.seed(3)
    torch.manual_seed(2)
    second, other = batch_of(objective, seed=5), batch_of(objective, seed=6)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    differs = any(first[k].shape != other[k].shape or not torch.equal(first[k], other[k]) for k in first)
    assert differs or (name == "autoencoder" and not options), "a plain autoencoder has nothing to draw"
    assert all(len(v) == 6 for v in first.values()), "every tensor has a leading batch dimension"
    losses = []
    for _ in range(2):
        torch.manual_seed(4)
        losses.append(copy.deepcopy(objective)(first)["loss"].item())
    assert losses[0] == losses[1]


@every
@every_family
def test_scaled_parts_equal_the_whole(name, options, family):
    # how evenly codes are used in two halves does not say how evenly they are in both
    objective = make(name, options | ({"diversity_weight": 0.0} if name == "wav2vec2" else {}), family).eval()
    batch = batch_of(objective)
    gradients = whole_and_parts(objective, batch, 2)
    if gradients is None:
        assert name == "contrastive", "only where others of the batch are the negatives do parts differ from the whole"
        return
    whole, found = gradients
    assert whole.keys() == found.keys()
    for key, gradient in whole.items():
        torch.testing.assert_close(gradient, found[key], atol=2e-5, rtol=2e-3, msg=key)


@every
def test_a_stopped_run_ends_with_the_same_bits(name, options, tmp_path):
    assert_a_stopped_run_ends_alike(lambda: make(name, options), CORPUS, tmp_path, number=6, stop_at=3)


@every
@every_family
def test_floor_and_pictures(name, options, family):
    objective = make(name, options, family).eval()
    floor = objective.floor(CORPUS)
    with torch.no_grad():
        logs = {k: float(v) for k, v in objective(batch_of(objective)).items()}
        pictures = objective.pictures(CORPUS)
    assert floor is not None or "chance_loss" in logs
    assert floor is None or (0 < floor.value < 20 and np.isfinite(floor.seen(logs)))
    assert all(p.mode == "RGB" and min(p.size) > 100 for p in pictures.values())
    assert bool(pictures) == (name in ("masked_audio", "autoencoder"))


@every
def test_options_are_what_was_given(name, options):
    objective = make(name, options)
    assert registry.build("objective", objective.spec()).options() == objective.options()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": "wav2vec2", "num_codes": 1}, "num_codes must be from 2"),
        ({"name": "wav2vec2", "code_size": 9}, "code_size must be a multiple of num_groups, 2, and is 9"),
        ({"name": "wav2vec2", "feature_gradient": 2.0}, "feature_gradient must be from 0 to 1"),
        ({"name": "contrastive", "min_crop": 2.0}, "min_crop must be from"),
        ({"name": "autoencoder", "noise": -1.0}, "noise must be from 0"),
    ],
)
def test_wrong_values_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        registry.build("objective", wrong)


def test_options_of_other_kinds_and_families_are_refused():
    with pytest.raises(ConfigError, match=r"mask_rate.*has no effect on .* data.*code_size"):
        make("autoencoder", {"mask_rate": 0.5})
    with pytest.raises(ConfigError, match="feature_weight has no effect on a family that reads spectra"):
        make("wav2vec2", {"feature_weight": 1.0})
    assert make("wav2vec2", {"feature_weight": 1.0}, "wav2vec2").feature_weight == 1.0
    assert make("contrastive", {}).part.min_crop == 0.4

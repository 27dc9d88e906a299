"""What every objective on images must do; a new file in objectives/ is tested without a line here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForImageClassification

from objective_contract import assert_a_stopped_run_ends_alike, steps, whole_and_parts
from pixel_stand_in import SIZE, StandInCorpus, StandInModality, config
from pretune import encoder, machine, registry
from pretune.errors import ConfigError
from pretune.objectives.base import Objective
from pretune.representation import collapsed, effective_rank, spread

FAMILIES = ("vit", "convnext", "resnet")


def _accepts_pixels(name: str) -> bool:
    cls = registry.find("objective", name)
    return issubclass(cls, Objective) and "pixels" in cls.accepts


NAMES = [n for n in registry.names("objective") if _accepts_pixels(n)]
CASES = [(name, family) for name in NAMES for family in FAMILIES]


def make(name: str, family: str = "vit", num_channels: int = 3, **options) -> Objective:
    torch.manual_seed(0)
    objective = registry.build("objective", {"name": name, **options})
    wanted = config(family, num_channels)
    try:
        model, _ = encoder.make(objective.auto_class(wanted.model_type), wanted)
        model.set_attn_implementation("eager")
        objective.setup(model, StandInModality(num_channels))
    except ConfigError as error:
        pytest.skip(str(error))
    machine.fast_convolutions(objective)  # as `pretrain` does
    return objective.train()


def batch_of(objective: Objective, num: int = 8, seed: int = 0, num_channels: int = 3):
    view = objective.examples(StandInCorpus(num_channels=num_channels), seed=0)
    return objective.collate([view[i] for i in range(num)], np.random.default_rng(seed))


@pytest.mark.parametrize(("name", "family"), CASES)
def test_loss_falls_and_reaches_the_encoder(name, family):
    objective = make(name, family)
    batch = batch_of(objective)
    # an opponent stands still: in a game no loss need fall
    own = [p for n, p in objective.named_parameters() if not n.startswith("generator")]
    optimizer = torch.optim.AdamW(own, lr=3e-3, betas=objective.betas)
    losses = []
    for step, logs in steps(objective, batch, optimizer, 20):
        if step == 0:
            absent = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
            assert not absent, f"no gradient (breaks DDP): {absent}"
            matrices = [p for p in encoder.blocks(objective.model)[1].parameters() if p.dim() > 1]
            assert matrices
            # layer scales of ConvNeXt V2 start at 0, behind them gradients do too
            assert np.mean([float(p.grad.abs().sum() > 0) for p in matrices]) > 0.4
        losses.append(logs.get("critic_loss", logs["loss"]).item())
    assert np.mean(losses[-3:]) < losses[0] - 0.01, losses


@pytest.mark.parametrize(("name", "family"), CASES)
def test_export_reloads_with_the_same_vectors(name, family, tmp_path):
    objective = make(name, family).eval()
    objective.export().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    classifier = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=3).eval()
    view = objective.examples(StandInCorpus(), seed=0)
    pixels = objective.modality.normalise(torch.from_numpy(view.corpus.images[:4]).permute(0, 3, 1, 2))
    with torch.no_grad():
        vectors = objective.embeddings([view[i] for i in range(4)])
        assert vectors.shape == (4, 32)
        states = again(pixel_values=pixels)
        exported = objective.export()(pixel_values=pixels).last_hidden_state
        torch.testing.assert_close(exported, states.last_hidden_state, atol=1e-5, rtol=1e-4)
        body = classifier.base_model(pixel_values=pixels).last_hidden_state
        torch.testing.assert_close(exported, body, atol=1e-5, rtol=1e-4)
        if name == "mae":  # gives the class token no target: what is watched is what it trains, the patches
            torch.testing.assert_close(vectors, states.last_hidden_state[:, 1:].mean(1), atol=1e-5, rtol=1e-4)
            return
        # the vectors that are watched are those that a classifier reads
        read = classifier.classifier(vectors) if family != "resnet" else classifier.classifier[1](vectors)
        torch.testing.assert_close(classifier(pixel_values=pixels).logits, read, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_collate_depends_on_examples_and_rng_alone(name):
    objective = make(name)
    torch.manual_seed(1)
    first = batch_of(objective, seed=5)
    np.random.seed(3)
    torch.manual_seed(2)
    second, other = batch_of(objective, seed=5), batch_of(objective, seed=6)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    random = any(not torch.equal(first[k], other[k]) for k in first)
    assert random or name == "autoencoder", "without noise an autoencoder has nothing to draw"
    assert all(len(v) == 8 for v in first.values()), "every tensor has a leading batch dimension"


@pytest.mark.parametrize("name", NAMES)
def test_images_are_augmented_where_the_encoder_is(name):
    """The device without memory refuses what mixes it with the CPU, as a GPU does."""
    batch = batch_of(make(name, **({"noise": 0.3} if name == "autoencoder" else {})).to("meta"))
    assert {v.device.type for n, v in batch.items() if n.endswith("_values")} == {"meta"}


@pytest.mark.parametrize("name", NAMES)
def test_scaled_halves_equal_the_whole(name):
    objective = make(name).eval()
    batch = batch_of(objective)
    gradients = whole_and_parts(objective, batch, 3)
    if gradients is None:
        pytest.skip("no counts: its micro-batches weigh the same")
    whole, parts = gradients
    for name_, gradient in whole.items():
        torch.testing.assert_close(gradient, parts[name_], atol=1e-5, rtol=1e-3, msg=name_)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_stopped_run_ends_with_the_same_bits(name, family, tmp_path):
    assert_a_stopped_run_ends_alike(lambda: make(name, family), StandInCorpus(), tmp_path, number=8, stop_at=5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_channels", [1, 3])
def test_pictures_floor_and_vectors(name, num_channels):
    objective = make(name, num_channels=num_channels).eval()
    corpus = StandInCorpus(num_channels=num_channels)
    pictures = objective.pictures(corpus)
    assert pictures
    assert all(p.mode == "RGB" and min(p.size) > SIZE for p in pictures.values())
    floor = objective.floor(corpus)
    with torch.no_grad():
        logs = {k: float(v) for k, v in objective(batch_of(objective, num_channels=num_channels)).items()}
        vectors = objective.embeddings([objective.examples(corpus, seed=0)[i] for i in range(20)])
    assert floor is None or (0 < floor.value < 20 and np.isfinite(floor.seen(logs)))
    found = {"effective_rank": effective_rank(vectors), "spread": spread(vectors)}
    assert 1 <= found["effective_rank"] <= 19
    assert isinstance(collapsed(found), bool)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_what_was_given(name):
    objective = make(name)
    assert registry.build("objective", objective.spec()).options() == objective.options()


def test_mae_says_what_fits_other_encoders():
    with pytest.raises(ConfigError, match=r"needs a ViT.*autoencoder, contrastive"):
        registry.build("objective", "mae").auto_class("resnet")


def test_gan_says_what_fits_batch_normalisation():
    model, _ = encoder.make(AutoModel, config("resnet"))
    with pytest.raises(ConfigError, match=r"without batch normalisation.*resnet.*vit or convnext"):
        registry.build("objective", "gan").setup(model, StandInModality())

"""Image objectives against transformers, closed forms and their own definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from pixel_stand_in import SIZE, StandInCorpus, StandInModality, config
from pretune import encoder, registry
from pretune.contrast import nt_xent
from pretune.errors import ConfigError
from pretune.image_decoder import ImageDecoder
from pretune.objectives.gan import differentiably_augmented, gradient_penalty
from pretune.objectives.mae import hide
from pretune.patches import cut, grid_positions, joined
from pretune.representation import effective_rank, neighbour_accuracy, spread


def made(name, family="vit", **options):
    torch.manual_seed(0)
    objective = registry.build("objective", {"name": name, **options})
    model, _ = encoder.make(objective.auto_class(config(family).model_type), config(family))
    objective.setup(model, StandInModality())
    with torch.no_grad():  # zero biases would hide a bias that is lost
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return objective.train()


def batch_of(objective, num=8, seed=0):
    view = objective.examples(StandInCorpus(), seed=0)
    return objective.collate([view[i] for i in range(num)], np.random.default_rng(seed))


def peer_of(objective):
    """transformers' ViTMAE with the weights of a `mae` objective."""
    small = config("vit").to_dict()
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
    peer = ViTMAEForPreTraining(
        ViTMAEConfig(
            **{k: small[k] for k in keys},
            decoder_hidden_size=64,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=256,
            mask_ratio=objective.mask_rate,
            norm_pix_loss=objective.normalise_targets,
        )
    )
    peer.vit.load_state_dict(objective.model.state_dict())
    own, theirs = objective.decoder, peer.decoder
    pairs = {theirs.decoder_embed: own.project, theirs.decoder_norm: own.norm, theirs.decoder_pred: own.out}
    for a, b in zip(theirs.decoder_layers, own.layers, strict=True):
        pairs |= {
            a.layernorm_before: b.norm_before,
            a.layernorm_after: b.norm_after,
            a.mlp.fc1: b.up,
            a.mlp.fc2: b.down,
        }
        pairs |= {a.attention.q_proj: b.query, a.attention.o_proj: b.out}
        for k, part in enumerate((a.attention.k_proj, a.attention.v_proj)):
            part.weight.data, part.bias.data = b.key_value.weight.chunk(2)[k].data, b.key_value.bias.chunk(2)[k].data
    for a, b in pairs.items():
        a.load_state_dict(b.state_dict())
    theirs.mask_token.data = own.mask_token.data[None, None]
    theirs.initialize_weights(objective.num_patches)  # transformers' post_init has set the positions to 0 again
    assert torch.allclose(theirs.decoder_pos_embed[0], own.positions, atol=1e-6), "positions are transformers' own"
    return peer


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("rate", [0.75, 0.4])
def test_mae_equals_transformers(normalise, rate):
    objective = made("mae", mask_rate=rate, normalise_targets=normalise, decoder_width=64)
    peer = peer_of(objective)
    pixels = batch_of(objective)["pixel_values"]
    noise = torch.rand(8, objective.num_patches)
    visible, hidden = hide(noise, objective.num_visible)
    loss = objective({"pixel_values": pixels, "visible": visible, "hidden": hidden})["loss"]
    theirs = peer(pixels, noise=noise)
    assert loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    loss.backward()
    theirs.loss.backward()
    for name, parameter in peer.vit.named_parameters():
        if parameter.grad is not None:
            mine = objective.model.get_parameter(name).grad
            torch.testing.assert_close(mine, parameter.grad, atol=1e-6, rtol=1e-3, msg=name)


def test_mae_encoder_on_all_patches_is_the_vit():
    objective = made("mae").eval()
    pixels = batch_of(objective)["pixel_values"]
    every = torch.arange(objective.num_patches).expand(8, -1)
    mine = objective.encode_visible(cut(pixels, objective.patch), every)
    torch.testing.assert_close(mine, objective.model(pixels).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_mae_masks_are_a_partition():
    visible, hidden = hide(torch.rand(5, 16), 4)
    assert torch.equal(torch.cat((visible, hidden), 1).sort(1).values, torch.arange(16).expand(5, -1))
    with pytest.raises(ConfigError, match="multiple of 32"):
        registry.build("objective", {"name": "mae", "decoder_width": 100})


def test_mae_floor_is_the_loss_of_the_best_constant():
    objective = made("mae")
    corpus = StandInCorpus()
    patches = cut(objective.sample(corpus), objective.patch)
    patches = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    best = torch.stack([F.mse_loss(patches[:, p], patches[:, p].mean(0).expand_as(patches[:, p])) for p in range(16)])
    assert objective.floor(corpus).value == pytest.approx(best.mean().item(), rel=1e-4)


def test_patches_are_cut_and_joined():
    images = torch.rand(3, 2, 12, 12)
    patches = cut(images, 4)
    assert patches.shape == (3, 9, 32)
    assert torch.equal(patches[1, 5].view(4, 4, 2), images[1, :, 4:8, 8:12].permute(1, 2, 0))
    assert torch.equal(joined(patches, 4, 2), images)
    assert grid_positions(9, 32).unique(dim=0).shape == (9, 32)


@pytest.mark.parametrize("size", [8, 15, 28, 30, 32, 64])
def test_image_decoder_gives_any_size(size):
    assert ImageDecoder(5, size, 3, width=4)(torch.zeros(2, 5)).shape == (2, 3, size, size)


def test_autoencoder_is_the_squared_error_of_one_code():
    objective = made("autoencoder", code_size=7).eval()
    batch = batch_of(objective)
    assert "noisy_values" not in batch
    pixels = batch["pixel_values"]
    codes = objective.code(objective.model(pixels).last_hidden_state[:, 0])
    assert codes.shape == (8, 7)
    errors = [(objective.decoder(c[None])[0] - x).square().mean() for c, x in zip(codes, pixels, strict=True)]
    assert objective(batch)["loss"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


def test_denoising_autoencoder_sees_noise_and_rebuilds_the_clean_image():
    objective = made("autoencoder", noise=0.5).eval()
    batch = batch_of(objective, 40)
    noise = batch["noisy_values"] - batch["pixel_values"]
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    rebuilt = objective.rebuild(batch["noisy_values"])
    assert objective(batch)["loss"].item() == pytest.approx(F.mse_loss(rebuilt, batch["pixel_values"]).item())


def test_vae_is_the_evidence_lower_bound():
    objective = made("vae", beta=1.0).eval()
    batch = batch_of(objective)
    pixels = batch["pixel_values"]
    mean, log_variance = objective.posterior(pixels)
    posterior = Normal(mean, (log_variance / 2).exp())
    rebuilt = objective.decoder(mean + posterior.scale * batch["code_noise"])
    likelihood = Normal(rebuilt, 1.0).log_prob(pixels).flatten(1).sum(1)
    bound = likelihood - kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
    number = pixels[0].numel()
    expected = -2 * bound.mean() / number - math.log(2 * math.pi)
    assert objective(batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_nt_xent_equals_its_definition():
    first, second = (F.normalize(torch.randn(5, 6), dim=1) for _ in range(2))
    vectors = torch.cat((first, second))
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        scores = torch.stack([vectors[i] @ vectors[j] / 0.3 for j in range(10) if j != i])
        total += (scores.logsumexp(0) - vectors[i] @ vectors[partner] / 0.3).item()
    assert nt_xent(first, second, 0.3).item() == pytest.approx(total / 10, rel=1e-5)


def test_contrastive_views_differ_by_what_is_asked_for():
    plain = batch_of(made("contrastive", jitter=0.0, grayscale_rate=0.0, min_crop=1.0, flip_rate=0.0))
    full = batch_of(made("contrastive"))
    near = (plain["pixel_values"] - plain["other_values"]).abs().mean()
    assert 0 < near < 0.5 * (full["pixel_values"] - full["other_values"]).abs().mean()


def test_gan_gives_each_side_its_own_gradient():
    objective = made("gan", augment_rate=0.0, r1_weight=0.0)
    batch = batch_of(objective)
    objective(batch)["loss"].backward()
    found = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()
    fake = objective.generator(batch["codes"])
    real_scores, fake_scores = objective.critic(batch["pixel_values"]), objective.critic(fake.detach())
    own = [p for n, p in objective.named_parameters() if n.startswith(("model.", "critic."))]
    critic = torch.autograd.grad((F.softplus(-real_scores) + F.softplus(fake_scores)).mean(), own)
    generator = torch.autograd.grad(F.softplus(-objective.critic(fake)).mean(), list(objective.generator.parameters()))
    expected = dict(zip([n for n in found if not n.startswith("generator")], critic, strict=True))
    expected |= dict(zip([n for n in found if n.startswith("generator")], generator, strict=True))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_r1_of_a_linear_critic_is_the_norm_of_its_weights():
    weights = torch.randn(3 * 4 * 4)
    linear = nn.Linear(48, 1)
    linear.weight.data = weights[None]
    found = gradient_penalty(lambda x: linear(x.flatten(1))[:, 0], torch.randn(6, 3, 4, 4))
    assert found.item() == pytest.approx(weights.square().sum().item(), rel=1e-5)


def test_gan_averages_its_generator():
    objective = made("gan", ema=0.9)
    before = [p.clone() for p in objective.average.parameters()]
    objective.num_steps += 1000
    objective.after_step(0.5)
    for slow, old, fast in zip(objective.average.parameters(), before, objective.generator.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.9 * old + 0.1 * fast)


def test_differentiable_augmentation_changes_and_passes_gradients():
    torch.manual_seed(0)
    images = torch.rand(16, 3, SIZE, SIZE, requires_grad=True)
    assert differentiably_augmented(images, 0.0) is images
    changed = differentiably_augmented(images, 1.0)
    assert changed.shape == images.shape
    assert not torch.equal(changed, images)
    changed.sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


def test_distill_equals_its_definition():
    objective = made("distill", num_local=2, num_prototypes=16).eval()
    objective.centre.normal_()
    batch = batch_of(objective)
    views = [batch["pixel_values"], batch["other_values"], *batch["local_values"].unbind(1)]
    assert views[2].shape[-1] == SIZE // 2

    def answers(model, head, x):
        return head(model(x, interpolate_pos_encoding=True).last_hidden_state[:, 0])

    total, pairs = 0.0, 0
    for i, large in enumerate(views[:2]):
        target = ((answers(objective.teacher_model, objective.teacher_head, large) - objective.centre) / 0.04).softmax(
            1
        )
        for j, view in enumerate(views):
            if i != j:
                guess = (answers(objective.model, objective.head, view) / 0.1).softmax(1)
                total, pairs = total - (target * guess.log()).sum(1).mean().item(), pairs + 1
    assert pairs == 6
    assert objective(batch)["loss"].item() == pytest.approx(total / pairs, rel=1e-4)


def test_distill_teacher_follows_and_the_centre_is_the_mean_answer():
    objective = made("distill", momentum=0.9)
    before = [p.clone() for p in objective.teacher_model.parameters()]
    objective.after_step(0.0)
    for slow, old, fast in zip(objective.teacher_model.parameters(), before, objective.model.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.9 * old + 0.1 * fast)
    objective.after_step(1.0)
    batch = batch_of(objective)
    objective(batch)
    large = torch.cat((batch["pixel_values"], batch["other_values"]))
    answers = objective.teacher_head(objective.teacher_model(large).last_hidden_state[:, 0])
    torch.testing.assert_close(objective.centre, answers.mean(0).detach(), atol=1e-6, rtol=1e-4)
    kept = objective.centre.clone()
    objective.eval()(batch)
    assert torch.equal(objective.centre, kept), "validation leaves it alone"


def test_effective_rank_and_spread():
    basis = torch.linalg.qr(torch.randn(40, 6)).Q
    basis = torch.linalg.qr(basis - basis.mean(0)).Q[:, :5]
    assert effective_rank(basis @ torch.linalg.qr(torch.randn(8, 5)).Q.T + 3.0) == pytest.approx(5.0, rel=1e-4)
    line = torch.randn(40, 1) @ torch.randn(1, 8)
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-3)
    assert spread(torch.ones(10, 4)) == 0.0
    assert spread(torch.tensor([[1.0], [-1.0]])) == 1.0


def test_neighbours_vote():
    vectors = torch.tensor([[1.0, 0.1], [1.0, 0.0], [1.0, -0.1], [-1.0, 0.1], [-1.0, 0.0], [-1.0, -0.1]])
    assert neighbour_accuracy(vectors, list("aaabbb"), num_neighbours=2) == 1.0
    assert neighbour_accuracy(vectors, list("aabbba"), num_neighbours=2) < 1.0


def test_options_of_the_other_kind_are_refused():
    with pytest.raises(ConfigError, match=r"mask_rate.*has no effect on image data.*code_size"):
        made("autoencoder", mask_rate=0.5)
    with pytest.raises(ConfigError, match="noise must be from 0"):
        registry.build("objective", {"name": "autoencoder", "noise": -1.0})
    assert made("contrastive").part.temperature == 0.2
    assert registry.build("objective", {"name": "contrastive"}).options()["temperature"] is None

"""Objectives on sound against transformers and their own definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import Wav2Vec2ForPreTraining

from pretune import encoder, mel, registry
from pretune.contrast import nt_xent
from pretune.errors import CollapseError, NumericsError
from pretune.objectives.wav2vec2 import negatives, pick
from pretune.quantizer import GumbelQuantizer, perplexity
from pretune.waveform_contrastive import crop
from waveform_stand_in import StandInAudio, StandInWaves

CORPUS = StandInWaves()


def made(name, family="wav2vec2-bert", **options):
    torch.manual_seed(0)
    objective = registry.build("objective", {"name": name, **options})
    modality = StandInAudio()
    model, _ = encoder.make(objective.auto_class(family), modality.config("tiny", family))
    model.set_attn_implementation("eager")
    objective.setup(model, modality)
    return objective.eval()


def batch_of(objective, num=5, seed=0):
    view = objective.examples(CORPUS, seed=0)
    return objective.collate([view[i] for i in range(num)], np.random.default_rng(seed))


@pytest.mark.parametrize("name", ["masked_audio", "wav2vec2"])
@pytest.mark.parametrize(("family", "frames"), [("wav2vec2-bert", 5), ("wav2vec2", 10), ("hubert", 10)])
def test_hidden_spans_last_as_long_as_asked(name, family, frames):
    objective = made(name, family, mask_seconds=0.2, mask_rate=0.02)
    assert objective.span == frames
    long = [{"input_values": np.ones(16_000, np.int16)}]
    mask = objective.collate(long, np.random.default_rng(0))["mask"][0]
    hidden = mask.sum().item() / len(mask)  # of one second
    assert hidden == pytest.approx(0.2, abs=0.02)


# -- wav2vec 2.0 ---------------------------------------------------------------------------------------------------


def peer_of(objective):
    """transformers' model for wav2vec 2.0 with the weights of an objective."""
    config = objective.model.config
    config.num_codevector_groups, config.num_codevectors_per_group = objective.num_groups, objective.num_codes
    config.codevector_dim, config.proj_codevector_dim = objective.code_size, objective.projection_size
    config.num_negatives, config.diversity_loss_weight = objective.num_negatives, objective.diversity_weight
    config.contrastive_logits_temperature = objective.temperature
    peer = Wav2Vec2ForPreTraining(config).eval()
    peer.set_attn_implementation("eager")
    peer.wav2vec2.load_state_dict(objective.model.state_dict())
    peer.quantizer.weight_proj.load_state_dict(objective.quantizer.scores.state_dict())
    # transformers numbers codes over all groups
    peer.quantizer.codevectors.data = objective.quantizer.vectors.data.reshape(peer.quantizer.codevectors.shape)
    peer.project_hid.load_state_dict(objective.state_head.state_dict())
    peer.project_q.load_state_dict(objective.code_head.state_dict())
    return peer


def whole_negatives(batch):
    """The negatives as transformers wants them: numbers of frames over the whole batch, (batch, frames, negatives)."""
    mask, drawn = batch["mask"], batch["negatives"]
    found = torch.zeros(*mask.shape, drawn.shape[2], dtype=torch.long)
    for row in range(len(mask)):
        places = mask[row].nonzero()[:, 0]
        found[row, places] = places[drawn[row, : len(places)]] + row * mask.shape[1]
    return found


@pytest.mark.parametrize("num_codes", [3, 40])
@pytest.mark.parametrize("num_groups", [1, 2])
def test_wav2vec2_equals_transformers(num_codes, num_groups):
    """With three codes many negatives are equal to the right one and left out."""
    objective = made(
        "wav2vec2", "wav2vec2", num_codes=num_codes, num_groups=num_groups, code_size=24, projection_size=20,
        num_negatives=15, feature_weight=0.0, diversity_weight=0.3, spectrum_weight=0.0,
    )  # fmt: skip
    batch = batch_of(objective)
    logs = objective(batch)
    peer = peer_of(objective)
    theirs = peer(
        batch["input_values"], attention_mask=batch["attention_mask"], mask_time_indices=batch["mask"],
        sampled_negative_indices=whole_negatives(batch),
    )  # fmt: skip
    hidden = batch["mask"].sum().item()
    assert logs["contrastive_loss"].item() == pytest.approx(theirs.contrastive_loss.item() / hidden, abs=1e-4)
    assert logs["diversity_loss"].item() == pytest.approx(theirs.diversity_loss.item() / hidden, abs=1e-4)
    assert logs["loss"].item() == pytest.approx(theirs.loss.item() / hidden, abs=1e-4)
    assert logs["code_perplexity"].item() == pytest.approx(theirs.codevector_perplexity.item(), rel=1e-4)
    logs["loss"].backward()
    (theirs.loss / hidden).backward()
    for name, parameter in peer.wav2vec2.named_parameters():
        if parameter.grad is not None and "feature_extractor" not in name:  # there it is weakened on purpose
            mine = objective.model.get_parameter(name).grad
            torch.testing.assert_close(mine, parameter.grad, atol=1e-5, rtol=1e-3, msg=name)
    ours = objective.model.feature_extractor.conv_layers[0].conv.weight.grad
    full = peer.wav2vec2.feature_extractor.conv_layers[0].conv.weight.grad
    torch.testing.assert_close(ours, 0.1 * full, atol=1e-6, rtol=1e-3)


def test_the_penalty_is_the_mean_square_of_the_convolutions_beyond_one():
    objective = made("wav2vec2", "wav2vec2", feature_weight=3.0, spectrum_weight=0.0)
    batch = batch_of(objective)
    last = objective.model.feature_extractor.conv_layers[-1].conv
    last.weight.data *= 4  # so that some frames are beyond 1
    logs = objective(batch)
    raw = objective.model.feature_extractor(batch["input_values"]).transpose(1, 2)
    squares = torch.cat([r[:n] for r, n in zip(raw, batch["num_frames"], strict=True)]).square().mean(-1)
    assert 0.1 < (squares > 1).float().mean() < 0.9
    assert logs["feature_square"].item() == pytest.approx(squares.mean().item(), rel=1e-5)
    rest = logs["contrastive_loss"] + 0.1 * logs["diversity_loss"]
    assert logs["loss"].item() == pytest.approx((rest + 3 * F.relu(squares - 1).mean()).item(), rel=1e-5)
    assert not objective.model.feature_extractor._forward_hooks, "the hook is gone after each step"


def test_spectra_are_read_off_the_convolutions_with_their_whole_gradient():
    objective = made("wav2vec2", "wav2vec2", feature_weight=0.0, spectrum_weight=2.0)
    batch = batch_of(objective)
    logs = objective(batch)
    raw = objective.model.feature_extractor(batch["input_values"]).transpose(1, 2)
    found = objective.spectrum_head(objective.model.feature_projection.layer_norm(raw))
    truth = objective.log_mels(batch)
    errors = [(f[:n] - t[:n]).square() for f, t, n in zip(found, truth, batch["num_frames"], strict=True)]
    expected = torch.cat(errors).mean()
    assert logs["spectrum_loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    rest = logs["contrastive_loss"] + 0.1 * logs["diversity_loss"]
    assert logs["loss"].item() == pytest.approx((rest + 2 * expected).item(), rel=1e-4)
    first = objective.model.feature_extractor.conv_layers[0].conv.weight
    (whole,) = torch.autograd.grad(2 * expected, first)
    weakened = made("wav2vec2", "wav2vec2", feature_weight=0.0, spectrum_weight=2.0, feature_gradient=0.0)
    weakened(batch)["loss"].backward()
    mine = weakened.model.feature_extractor.conv_layers[0].conv.weight.grad
    torch.testing.assert_close(mine, whole, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wav2vec2-bert"])
def test_codes_are_those_of_what_the_first_linear_layer_reads(family):
    objective = made("wav2vec2", family)
    batch, read = batch_of(objective), []
    layer = objective.model.feature_projection.projection
    with layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])):
        logs = objective(batch)
    expected = objective.quantizer(read[0][batch["mask"]])
    assert logs["code_perplexity"].item() == pytest.approx(perplexity(expected.use).item(), rel=1e-4)


def test_negatives_are_other_hidden_frames_and_uniform():
    hidden = np.array([4, 9, 1, 2])
    drawn = negatives(hidden, 2000, np.random.default_rng(0))
    assert drawn.shape == (4, 9, 2000)
    for row, count in enumerate(hidden):
        for place in range(count if count > 1 else 0):
            shares = np.bincount(drawn[row, place], minlength=count) / 2000
            assert len(shares) == count, "stay in the recording"
            assert shares[place] == 0, "never the frame itself"
            assert np.abs(np.delete(shares, place) - 1 / (count - 1)).max() < 0.05


def test_a_recording_with_one_hidden_frame_has_no_target():
    objective = made("wav2vec2", diversity_weight=0.0)
    batch = batch_of(objective)
    mask = batch["mask"].clone()
    mask[0] = False
    mask[0, 3] = True
    drawn = torch.from_numpy(negatives(mask.sum(1).numpy(), 100, np.random.default_rng(0)))
    changed = batch | {"mask": mask, "negatives": drawn}
    others = {k: v[1:] for k, v in changed.items()}
    assert objective.counts(changed)["hidden"] == mask[1:].sum()
    assert objective(changed)["loss"].item() == pytest.approx(objective(others)["loss"].item(), rel=1e-4)
    alone = objective({k: v[:1] for k, v in changed.items()})
    assert alone["loss"].item() == 0.0, "and the loss of such recordings alone is no NaN"


def test_pick_is_its_definition_and_leaves_equal_codes_out():
    torch.manual_seed(1)
    states, codes = torch.randn(2, 5, 6), torch.randint(0, 2, (2, 5, 2))
    vectors = torch.einsum("brgc,gcw->brw", F.one_hot(codes, 2).float(), torch.randn(2, 2, 6))
    others = torch.from_numpy(negatives(np.array([5, 5]), 7, np.random.default_rng(0)))
    losses, chances, right = [], [], []
    for b in range(2):
        for i in range(5):
            apart = [int(j) for j in others[b, i] if not torch.equal(codes[b, i], codes[b, j])]
            scores = torch.stack([F.cosine_similarity(states[b, i], vectors[b, j], dim=0) for j in [i, *apart]]) / 0.2
            losses.append(-scores.log_softmax(0)[0].item())
            chances.append(math.log(1 + len(apart)))
            right += [float(scores[0] > scores[1:].max())] if apart else []
    found = pick(states, vectors, codes, others, torch.ones(2, 5, dtype=torch.bool), 0.2)
    for value, expected in zip(found, (losses, chances, right), strict=True):
        assert value.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_collapse_looks_like_chance():
    """Where all codes are equal, the contrastive loss is 0 and must not be taken for success."""
    objective = made("wav2vec2")
    objective.quantizer.scores.weight.data.zero_()
    logs = objective(batch_of(objective))
    assert logs["contrastive_loss"].item() == 0.0
    assert objective.floor(CORPUS).seen(logs) == pytest.approx(math.log(101))
    assert logs["code_perplexity"].item() == pytest.approx(2.0)


def test_a_code_that_comes_and_goes_is_no_relief():
    """Codes that are set anew are used for a few steps; a collapse that goes on behind them is found all the same."""
    quantise = quantizer(floor=0.5)
    quantise._revive = lambda _: None
    spread, equal = torch.randn(200, 12), torch.ones(200, 12)

    def steps():
        for step in range(100):
            quantise(spread if step % 20 < 8 else equal)
            quantise.after_step(step / 100)

    with pytest.raises(CollapseError):
        steps()


# -- the quantiser -------------------------------------------------------------------------------------------------


def quantizer(**options):
    torch.manual_seed(0)
    return GumbelQuantizer(12, 16, num_groups=2, num_codes=8, **options).train()


def test_perplexity_counts_the_codes_in_use():
    shares = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    assert perplexity(shares).item() == pytest.approx(5.0)


def test_a_quantised_vector_is_one_code_of_each_group():
    quantise = quantizer()
    features = torch.randn(30, 12, requires_grad=True)
    for found in (quantise(features), quantise.eval()(features)):
        for group in range(2):
            expected = quantise.vectors[group, found.codes[:, group]]
            torch.testing.assert_close(found.vectors.chunk(2, 1)[group], expected, atol=1e-6, rtol=1e-4)
    quantise.train()(features).vectors.square().sum().backward()
    assert quantise.scores.weight.grad.abs().sum() > 0, "the choice learns, straight through"


def test_the_choice_follows_the_softmax_and_cools_with_the_budget():
    quantise = quantizer(temperatures=(2.0, 0.5))
    quantise.scores.weight.data.zero_()
    quantise.scores.bias.data.copy_(torch.randn(16))
    found = quantise(torch.zeros(20_000, 12))
    drawn = F.one_hot(found.codes, 8).float().mean(0)
    torch.testing.assert_close(drawn, found.shares, atol=0.02, rtol=0)
    cooled = []
    for progress in (0.0, 0.5, 1.0, 0.5, 2.0):
        quantise.after_step(progress)
        cooled.append(quantise.temperature.item())
    assert cooled == pytest.approx([2.0, 1.0, 0.5, 1.0, 0.5]), "a function of the share of the budget alone"


def collapsed(**options):
    """All frames are given the first code of each group."""
    quantise = quantizer(**options)
    quantise.scores.bias.data.view(2, 8)[:, 0] = 1000.0
    return quantise


def test_unused_codes_are_set_anew_and_used():
    quantise, features = collapsed(floor=0.3), torch.randn(800, 12)
    before = quantise.scores.weight.data.view(2, 8, 12)[:, 0].clone()
    assert perplexity(quantise(features).use).item() == pytest.approx(2.0)
    quantise.after_step(0.0)
    assert quantise.revived.item() == 14
    assert torch.equal(quantise.scores.weight.data.view(2, 8, 12)[:, 0], before), "what is used stays"
    found = quantise(features)
    assert (found.use > 0).all()
    assert perplexity(found.use) > 3 * 2.0


def test_revival_depends_on_the_seed_alone():
    weights = []
    for _ in range(2):
        quantise, features = collapsed(), torch.randn(100, 12)
        quantise(features)
        torch.manual_seed(7)
        quantise.after_step(0.0)
        weights.append(quantise.scores.weight.detach().clone())
    assert torch.equal(*weights)


def test_codes_in_use_are_left_alone():
    quantise = quantizer()
    before = quantise.scores.weight.clone()
    for step in range(50):
        quantise(torch.randn(400, 12))
        quantise.after_step(step / 50)
    assert quantise.revived.item() == 0
    assert torch.equal(quantise.scores.weight, before)


@pytest.mark.parametrize("floor", [0.3, 0.0])
def test_a_collapse_that_no_remedy_helps_is_named(floor):
    quantise = quantizer(floor=floor)

    def steps():
        for step in range(100):
            quantise(torch.ones(64, 12))  # frames that are all equal
            quantise.after_step(step / 100)
        return step

    if floor == 0:
        assert steps() == 99, "without a floor nothing is watched"
        return
    with pytest.raises(
        CollapseError, match=r"codebook collapsed.*below 4.8 of 16 codes \(now 2\S*\).*try a lower --lr"
    ):
        steps()
    assert 30 < quantise.num_steps < 50
    assert issubclass(CollapseError, NumericsError)


# -- autoencoder ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["wav2vec2", "wav2vec2-bert"])
def test_autoencoder_rebuilds_the_spectrum_of_each_recording_from_one_code(family):
    objective = made("autoencoder", family, code_size=7, decoder_width=4)
    batch = batch_of(objective)
    states = objective.encode(batch).last_hidden_state
    errors, windows = [], 4 if family == "wav2vec2-bert" else 2
    view = objective.examples(CORPUS, seed=0)
    for row in range(5):
        count = int(batch["num_frames"][row])
        code = objective.code(states[row, :count].mean(0))
        assert code.shape == (7,)
        wave = torch.from_numpy(view[row]["input_values"].astype(np.float32))[None] / 2**15
        mels = mel.log_mel(wave, 16_000)[0]
        mels = (mels - mels.mean(0)) / (mels.var(0) + 1e-7).sqrt()
        if row == int(batch["num_samples"].argmax()):
            mels = mels[: len(mels) // windows * windows]  # half a frame at the very end is left out
        truth = F.pad(mels[: count * windows], (0, 0, 0, max(0, count * windows - len(mels)))).view(count, -1)
        rebuilt = objective.decoder(code[None], torch.tensor([count]), count)[0]
        errors.append((rebuilt - truth).square().mean(1))
    assert objective(batch)["loss"].item() == pytest.approx(torch.cat(errors).mean().item(), rel=1e-3)


@pytest.mark.parametrize("family", ["wav2vec2", "wav2vec2-bert"])
def test_denoising_hears_noise_and_rebuilds_what_was_clean(family):
    plain, noisy = made("autoencoder", family), made("autoencoder", family, noise=0.5)
    name = plain.modality.main_input
    clean, heard = batch_of(plain), batch_of(noisy)
    kept = clean["attention_mask"].bool()
    noise = (heard[name] - clean[name])[kept]
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(heard[name][~kept], clean[name][~kept]), "what fills the batch up stays silent"
    assert torch.equal(noisy.targets(heard), plain.targets(clean))
    assert noisy.targets(heard) is not heard[name]


def test_autoencoder_floor_is_the_loss_of_the_best_constant():
    objective = made("autoencoder")
    view = objective.examples(CORPUS, seed=0)
    frames = torch.cat([objective.collate([e], np.random.default_rng(0))["input_features"][0] for e in view])
    best = F.mse_loss(frames, frames.mean(0).expand_as(frames))
    assert objective.floor(CORPUS).value == pytest.approx(best.item(), rel=1e-4)


def test_the_decoder_knows_the_place_from_both_ends():
    decoder = made("autoencoder", decoder_width=4).decoder
    short, long = (decoder._places(torch.tensor([n]), n)[0] for n in (6, 60))
    starts, ends = torch.arange(64) % 32 < 16, torch.arange(64) % 32 >= 16
    torch.testing.assert_close(short[:, starts], long[:6, starts])
    torch.testing.assert_close(short[:, ends], long[-6:, ends])
    assert long.unique(dim=0).shape == (60, 64)


# -- contrastive ---------------------------------------------------------------------------------------------------


def test_contrastive_is_nt_xent_of_the_mean_states():
    objective = made("contrastive", temperature=0.3)
    batch = batch_of(objective)
    vectors = []
    for prefix in ("", "other_"):
        values, mask = batch[f"{prefix}input_features"], batch[f"{prefix}attention_mask"]
        states = objective.model(values, attention_mask=mask).last_hidden_state
        means = torch.stack([s[: int(m.sum())].mean(0) for s, m in zip(states, mask, strict=True)])
        vectors.append(F.normalize(objective.head(means), dim=1))
    logs = objective(batch)
    assert logs["loss"].item() == pytest.approx(nt_xent(*vectors, 0.3).item(), rel=1e-4)
    assert logs["chance_loss"].item() == pytest.approx(math.log(9))
    torch.testing.assert_close(batch["seconds"] * 16_000, (batch["num_samples"] + batch["other_num_samples"]).float())


def test_crops_are_parts_of_the_duration_asked_for():
    rng = np.random.default_rng(0)
    example = {"input_values": np.arange(10_000, dtype=np.int16)}
    crops = [crop(example, rng, share=0.4, least=1000)["input_values"] for _ in range(400)]
    assert all((np.diff(c) == 1).all() for c in crops), "without a break"
    lengths = np.array([len(c) for c in crops])
    assert 4000 <= lengths.min() < 4200
    assert 9800 < lengths.max() <= 10_000
    assert min(c[0] for c in crops) < 50
    assert max(c[-1] for c in crops) > 9950
    assert len(crop(example, rng, share=0.01, least=9999)["input_values"]) >= 9999
    assert len(crop({"input_values": example["input_values"][:500]}, rng, share=0.4, least=1000)["input_values"]) == 500


def test_crops_of_the_whole_differ_by_what_is_hidden():
    batch = batch_of(made("contrastive", min_crop=1.0))
    same = batch["input_features"] == batch["other_input_features"]
    assert not torch.equal(batch["input_features"], batch["other_input_features"])
    assert (batch["input_features"] == 0).any(1).any()
    assert same.float().mean() < 0.9

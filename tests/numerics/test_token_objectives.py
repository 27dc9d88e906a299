"""Token objectives against transformers' own losses, closed forms and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from pretune import encoder, registry, vocabulary
from pretune.errors import ConfigError
from pretune.masking import IGNORED, TokenTable, mask_tokens, word_groups
from pretune.segments import Blocks, Windows, unigram_entropy
from token_stand_in import StandInCorpus, config, modality, tokenizer

TABLE = TokenTable.of(tokenizer())


def made(name, family="bert", max_length=24, **options):
    torch.manual_seed(0)
    objective = registry.build("objective", {"name": name, **options})
    model, _ = encoder.make(objective.auto_class(family), config(family))
    with torch.no_grad():  # zero biases would hide a bias that is lost
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    objective.setup(model, modality(max_length))
    return objective.train()


def batch_of(objective, num=8, seed=0, **corpus):
    view = objective.examples(StandInCorpus(**corpus), seed=0)
    return objective.collate([view[i] for i in range(num)], np.random.default_rng(seed))


def grads(module):
    found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-6, rtol=1e-4), name


@pytest.mark.parametrize("family", ["bert", "modernbert", "electra", "esm"])
@pytest.mark.parametrize("chunked", [False, True])
def test_mlm_equals_transformers(family, chunked, monkeypatch):
    if chunked:
        monkeypatch.setattr(vocabulary, "CHUNKED_FROM", 1)
        monkeypatch.setattr(vocabulary, "CHUNK_ROWS", 7)
    objective = made("mlm", family)
    batch = batch_of(objective)
    logs = objective(batch)
    logs["loss"].backward()
    fast = grads(objective.model)
    output = objective.model(**batch)
    output.loss.backward()
    assert logs["loss"].item() == pytest.approx(output.loss.item(), rel=1e-5)
    same(fast, grads(objective.model))
    masked = batch["labels"] != IGNORED
    right = output.logits.argmax(-1)[masked] == batch["labels"][masked]
    assert logs["masked_accuracy"].item() == pytest.approx(right.float().mean().item())


def test_mlm_leaves_the_model_as_it_was():
    objective = made("mlm")
    batch = batch_of(objective)
    before = objective.model(**batch).loss.item()
    objective(batch)
    assert objective.model(**batch).loss.item() == before
    assert "forward" not in vars(objective.model.base_model)
    assert "forward" not in vars(objective.model.get_output_embeddings())


def test_bert_equals_transformers():
    objective = made("bert")
    batch = batch_of(objective)
    assert "attention_mask" in batch
    logs = objective(batch)
    logs["loss"].backward()
    fast = grads(objective.model)
    loss = objective.model(**batch).loss
    loss.backward()
    assert logs["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    same(fast, grads(objective.model))


@pytest.mark.parametrize("num_sentences", [1, 8])
def test_bert_pairs(num_sentences):
    objective = made("bert", mask_rate=0.01, mask_share=0.0, random_share=0.0)
    corpus = StandInCorpus(num_sentences=num_sentences)
    view = objective.examples(corpus, seed=0)
    examples = [view[i] for i in range(8)]
    batch = objective.collate(examples, np.random.default_rng(0))
    assert batch["input_ids"].shape[1] <= 24
    assert batch["next_sentence_label"].sum() == 4
    for i, example in enumerate(examples):
        length = int(batch["attention_mask"][i].sum()) if "attention_mask" in batch else 24
        row, types = batch["input_ids"][i, :length].tolist(), batch["token_type_ids"][i, :length].tolist()
        num_first = types.index(1)
        assert row[0] == 2
        assert row[-1] == row[num_first - 1] == 3
        assert types == [0] * num_first + [1] * (length - num_first)
        text = np.concatenate(example["sentences"]).tolist()
        joined = row[1 : num_first - 1] + row[num_first:-1]
        assert (joined == text) == (batch["next_sentence_label"][i] == 0)


def test_bert_in_one_document_has_only_true_pairs():
    objective = made("bert")
    assert batch_of(objective, num=4, num_documents=1, num_sentences=30)["next_sentence_label"].sum() == 0


def test_bert_names_the_way_out_for_modernbert():
    with pytest.raises(ConfigError, match='use the objective "mlm"'):
        registry.build("objective", "bert").auto_class("modernbert")


def test_masking_is_exact_and_honours_shares():
    ids = np.random.default_rng(0).integers(5, 128, size=(64, 128))
    ids[:, 0], ids[:, -1], ids[:32, 100:] = 2, 3, 0
    noisy, labels = mask_tokens(ids, TABLE, np.random.default_rng(1), mask_rate=0.15)
    hidden = labels != IGNORED
    assert hidden.sum(1).tolist() == [15] * 32 + [19] * 32
    assert (labels[hidden] == ids[hidden]).all()
    assert (noisy[~hidden] == ids[~hidden]).all()
    assert not hidden[ids <= 4].any()
    assert (noisy == 4).sum() / hidden.sum() == pytest.approx(0.8, abs=0.04)
    assert (noisy == ids)[hidden].mean() == pytest.approx(0.1, abs=0.03)
    assert not np.isin(noisy, [1, 2, 3])[hidden].any()


def test_whole_words_are_never_cut():
    ids = np.random.default_rng(0).integers(5, 128, size=(64, 60))
    ids[:, 0] = 2
    _, labels = mask_tokens(ids, TABLE, np.random.default_rng(1), mask_rate=0.2, whole_word=True)
    hidden, words = labels != IGNORED, word_groups(ids, TABLE)
    for row in range(64):
        for word in range(words[row].max() + 1):
            inside = hidden[row][(words[row] == word) & TABLE.maskable[ids[row]]]
            assert inside.all() or not inside.any()
    assert 0.1 < hidden.mean() <= 0.2


def test_spans_are_contiguous():
    ids = np.random.default_rng(0).integers(5, 128, size=(8, 120))
    _, labels = mask_tokens(ids, TABLE, np.random.default_rng(1), mask_rate=0.25, span_length=5)
    hidden = labels != IGNORED
    assert (hidden.sum(1) == 30).all()
    assert (np.diff(hidden.astype(int), axis=1) == 1).sum() <= 8 * 8


def test_every_row_has_a_target_and_padding_none():
    ids = np.array([[2, 9, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0]])
    _, labels = mask_tokens(ids, TABLE, np.random.default_rng(0), mask_rate=0.15, whole_word=True)
    assert (labels != IGNORED).sum(1).tolist() == [1, 0]


def test_blocks_cover_the_stream():
    corpus = StandInCorpus()
    blocks = Blocks(corpus, 24)
    inner = [blocks[i]["input_ids"][1:-1] for i in range(len(blocks))]
    assert {len(b) for b in inner} == {22}
    assert np.concatenate(inner[:-1]).tolist() == corpus.stream[: 22 * (len(blocks) - 1)].tolist()
    assert inner[-1].tolist() == corpus.stream[-22:].tolist()
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_windows_differ_by_seed():
    corpus = StandInCorpus()
    starts = {Windows(corpus, 22, seed=s)[0]["sentences"][0].tobytes() for s in range(8)}
    assert len(starts) > 1


def test_unigram_entropy_of_a_uniform_vocabulary():
    assert unigram_entropy(np.full(32, 7)) == pytest.approx(np.log(32))


def test_chunked_cross_entropy_equals_plain(monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNKED_FROM", 1)
    torch.manual_seed(0)
    x, w, b = torch.randn(600, 16), torch.randn(90, 16), torch.randn(90)
    targets = torch.randint(0, 90, (600,))
    plain = [t.clone().requires_grad_() for t in (x, w, b)]
    fast = [t.clone().requires_grad_() for t in (x, w, b)]
    logits = F.linear(*plain)
    (F.cross_entropy(logits, targets) * 3).backward()
    loss, accuracy = vocabulary.cross_entropy(*fast, targets)
    (loss * 3).backward()
    assert loss.item() == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-5)
    assert accuracy.item() == pytest.approx((logits.argmax(1) == targets).float().mean().item())
    for one, other in zip(plain, fast, strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "modernbert", "electra"])
def test_electra_shares_embeddings_and_detects_what_was_replaced(family, monkeypatch):
    objective = made("electra", family)
    table = objective.model.get_input_embeddings().weight
    assert objective.generator_head.weight is table
    names = [n for n, p in objective.named_parameters(remove_duplicate=False) if p is table]
    assert len(names) == 1
    batch = batch_of(objective)
    seen = {}
    detect = objective.detect
    monkeypatch.setattr(objective, "detect", lambda b: seen.update(b) or detect(b))
    logs = objective(batch)
    original = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
    replaced = seen["input_ids"] != original
    assert not (seen["input_ids"] == 4).any()
    assert not replaced[batch["labels"] == IGNORED].any()
    truth = F.binary_cross_entropy_with_logits(detect(seen), replaced.float())
    assert logs["detection_loss"].item() == pytest.approx(truth.item(), rel=1e-5)
    assert logs["loss"].item() == pytest.approx(logs["mlm_loss"].item() + 50 * truth.item(), rel=1e-5)


def test_electra_discriminator_loss_equals_transformers():
    objective = made("electra", "electra")
    batch = batch_of(objective)
    scores = objective.detect(batch)
    labels = (torch.rand(scores.shape) < 0.1).long()
    mine = objective._losses(torch.zeros(()), scores, labels.bool(), batch)["detection_loss"]
    assert mine.item() == pytest.approx(objective.model(batch["input_ids"], labels=labels).loss.item(), rel=1e-5)


def test_electra_samples_follow_the_generator():
    from pretune.objectives.electra import _sample

    torch.manual_seed(0)
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(40_000, 3)
    shares = torch.bincount(_sample(logits)) / 40_000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.01)


@pytest.mark.parametrize("rate", [0.7, 1.0])
def test_decoder_sees_hidden_words_through_the_vector_alone(rate):
    objective = made("autoencoder", decoder_mask_rate=rate).eval()
    batch = batch_of(objective)
    hidden = batch["decoder_labels"] != IGNORED
    assert (batch["decoder_input_ids"][hidden] == 4).all()
    if rate == 1.0:
        real = batch.get("decoder_attention_mask", torch.ones_like(hidden)).bool()
        assert hidden[real].all()
    vector = torch.randn(8, 32, requires_grad=True)
    others = {k: v.flip(0) if k in ("input_ids", "labels") else v for k, v in batch.items()}
    states = objective.decode(vector, batch)
    assert torch.equal(states, objective.decode(vector, others))
    states[hidden].sum().backward()
    assert (vector.grad.abs().sum(1) > 0).all()


def test_autoencoder_corruption_keeps_words_whole_and_near():
    objective = made("autoencoder", delete_rate=0.3, shuffle_distance=2.0)
    ids = np.arange(5, 125)[None].repeat(16, 0)
    lengths = np.full(16, 120)
    noisy, kept = objective._corrupted(ids, lengths, np.random.default_rng(0))
    words = word_groups(ids, TABLE)[0]
    shares = []
    for row, number in zip(noisy, kept, strict=True):
        found = words[row[:number] - 5]
        counts = np.bincount(words)
        assert all((found == w).sum() == counts[w] for w in set(found.tolist()))
        runs = found[np.insert(np.diff(found) != 0, 0, True)]
        assert len(runs) == len(set(found.tolist()))
        assert max(abs(np.argsort(np.argsort(runs)) - np.arange(len(runs)))) <= 2
        shares.append(len(runs) / len(counts))
    assert np.mean(shares) == pytest.approx(0.7, abs=0.06)


def test_autoencoder_without_noise_is_the_text():
    objective = made("autoencoder", delete_rate=0.0, shuffle_distance=0.0, mask_rate=0.0, mlm_weight=0.0)
    view = objective.examples(StandInCorpus(), seed=0)
    batch = objective.collate([view[0]], np.random.default_rng(0))
    assert batch["input_ids"][0].tolist() == [2, *np.concatenate(view[0]["sentences"]).tolist(), 3]
    with pytest.raises(ConfigError, match="mask_rate"):
        registry.build("objective", {"name": "autoencoder", "mask_rate": 0.0})


def test_contrastive_equals_its_definition():
    objective = made("contrastive", mlm_weight=0.0)
    batch = batch_of(objective)
    torch.manual_seed(3)
    logs = objective(batch)
    torch.manual_seed(3)
    double = {k: v.repeat(2, 1) for k, v in batch.items()}
    vectors = objective.model(**double).pooler_output
    first, second = vectors[:8], vectors[8:]
    assert not torch.equal(first, second)
    similarity = F.cosine_similarity(first[:, None], second[None], dim=-1) / 0.05
    loss = -similarity.log_softmax(1).diagonal().mean()
    assert logs["loss"].item() == pytest.approx(loss.item(), rel=1e-4)


def test_contrastive_needs_dropout():
    with pytest.raises(ConfigError, match="dropout"):
        registry.build("objective", {"name": "contrastive", "dropout": 0.0})


def test_dropout_is_off_while_pretraining_and_standard_in_the_export():
    objective = made("mlm")
    batch = batch_of(objective)
    assert objective(batch)["loss"].item() == objective(batch)["loss"].item()
    assert objective.export().config.hidden_dropout_prob == 0.1


def test_mlm_is_a_plain_masked_language_model(tmp_path):
    objective = made("mlm")
    objective.export().save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    ids = torch.randint(5, 120, (2, 16))
    assert torch.equal(objective.export().eval()(ids).logits, again.eval()(ids).logits)

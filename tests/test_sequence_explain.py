"""Explanations of sequences name the planted motif, agree with a hand loop, and are drawn."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import chisquare

import planted
from pretune.dinucleotide_shuffle import dinucleotide_shuffle
from pretune.errors import ConfigError
from pretune.explainers.mutagenesis import Mutagenesis
from pretune.explaining import explain_records
from pretune.explanation import page
from pretune.heat_map import write_picture
from pretune.modalities.dna import Dna
from pretune.modalities.protein import Protein
from pretune.motifs import Motif, draw_motif, motifs_of
from pretune.predicting import Predictor
from pretune.sequence_pieces import letters_of
from pretune.tasks.classification import Classification
from pretune.tasks.tagging import Tagging

MOTIF, LENGTH = "TATAAT", 28


def sequences(num, seed=0, masks=0.0):
    """Random bases; half of them with the motif at a random place, whose label is "box"."""
    rng = random.Random(seed)
    rows = []
    while len(rows) < num:
        letters = "".join(rng.choices("ACGT", k=LENGTH))
        at = rng.randrange(LENGTH - len(MOTIF))
        box = len(rows) % 2 == 0
        if box:
            letters = letters[:at] + MOTIF + letters[at + len(MOTIF) :]
        rows.append({"sequence": letters, "label": "box" if box else "none", "at": at})
    return rows


def small(config):
    config.update({"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2})
    return config


def setup(task, modality, labels, family="bert"):
    torch.manual_seed(0)
    modality.learn(None)
    task.check(modality)
    task.learn_labels(labels)
    task.setup_from(small(modality.config("tiny", family)), modality)
    task.eval()
    return task


@pytest.fixture(scope="module")
def boxes():
    """A small model, trained on new sequences at every step."""
    task = setup(Classification(), Dna(max_length=64), ["box", "none"], "modernbert")
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    task.train()
    for step in range(200):
        rows = sequences(48, 1000 + step)
        examples = [task.labelled(e, r["label"]) for e, r in zip(task.process(rows), rows, strict=True)]
        task(task.collate(examples))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    task.eval()
    return Predictor(task)


def inside(found, rows):
    """Share of the six letters of highest score that are the motif's, one a record."""
    tops = [set(np.argsort(-np.array(e.scores))[: len(MOTIF)].tolist()) for e in found]
    return [len(t & set(range(r["at"], r["at"] + len(MOTIF)))) / len(MOTIF) for t, r in zip(tops, rows, strict=True)]


@pytest.mark.parametrize("explainer", ["mutagenesis", "occlusion", "integrated_gradients"])
def test_the_motif_ranks_first(boxes, explainer):
    rows = [r for r in sequences(24, seed=3) if r["label"] == "box"]
    found = explain_records(boxes, rows, explainer=explainer, of="box", num_random=0)
    assert (
        np.mean(inside(found, rows)) > {"mutagenesis": 0.75, "occlusion": 0.6, "integrated_gradients": 0.6}[explainer]
    )
    first = [r["at"] <= int(np.argmax(e.scores)) < r["at"] + len(MOTIF) for e, r in zip(found, rows, strict=True)]
    assert np.mean(first) >= (0.9 if explainer == "mutagenesis" else 0.75)


def test_mutagenesis_is_faithful_behind_masks_and_behind_shuffles(boxes):
    rows = [r for r in sequences(12, seed=5) if r["label"] == "box"]
    found = explain_records(boxes, rows, explainer="mutagenesis", of="box")
    for tested in ([e.faithfulness for e in found], [e.shuffled for e in found]):
        ours, control = (
            [getattr(t, name) for t in tested] for name in ("comprehensiveness", "random_comprehensiveness")
        )
        assert np.mean(ours) > np.mean([c.value for c in control]) + 0.1
    assert {"comprehensiveness ↑ (shuffles)", "sufficiency ↓ (shuffles)"} < {name for name, _, _ in found[0].figures}
    assert any(v.text.startswith("Hidden behind shuffled letters") for v in found[0].verdicts)


@pytest.mark.parametrize("drop", ["mean", "max"])
def test_mutagenesis_equals_a_loop_over_substitutions(boxes, drop):
    task, sequence = boxes.task, "ACGTNTATAATC"

    def logit(text):
        with torch.no_grad():
            return float(task(task.collate(task.process([{"sequence": text}])))["logits"][0, 0])

    (found,) = explain_records(
        boxes, [sequence], explainer=Mutagenesis(drop=drop, max_tokens=40), of="box", num_random=0
    )
    changes = [
        [logit(sequence[:i] + c + sequence[i + 1 :]) - logit(sequence) for c in "ACGT"] for i in range(len(sequence))
    ]
    falls = [
        [-change for c, change in zip("ACGT", row, strict=True) if c != s]
        for row, s in zip(changes, sequence, strict=True)
    ]
    assert found.substitutes == list("ACGT")
    assert np.allclose(found.mutations, changes, atol=1e-4)
    assert found.scores == pytest.approx([np.mean(f) if drop == "mean" else max(f) for f in falls], abs=1e-4)
    assert any(("mean fall" if drop == "mean" else "largest fall") in r for r in found.remarks)


def test_mutagenesis_refuses_what_has_no_single_letters():
    with pytest.raises(ConfigError, match="replaces letters of DNA and proteins, and this run reads text"):
        explain_records(Predictor(planted.classifier()), ["some film"], explainer="mutagenesis")
    kmers = Predictor(setup(Classification(), Dna(tokenizer="kmer", kmer=3, max_length=16), ["a", "b"]))
    with pytest.raises(ConfigError, match="needs a token a letter, and the tokens of this run are kmer"):
        explain_records(kmers, ["ACGTACGT"], explainer="mutagenesis")
    with pytest.raises(ConfigError, match="drop is"):
        Mutagenesis(drop="median")


@pytest.mark.parametrize("explainer", ["occlusion", "integrated_gradients", "attention"])
def test_kmers_and_what_is_cut(explainer):
    task = setup(Classification(), Dna(tokenizer="kmer", kmer=3, max_length=8), ["a", "b"])
    (found,) = explain_records(Predictor(task), ["acgNttga" + "ACG" * 10], explainer=explainer, num_random=2)
    assert found.words == ["ACG", "N", "TTG", "AAC", "GAC", "GAC"]
    assert found.noun == "tokens"
    assert found.shuffled is None
    assert any("22 letters were not read" in r for r in found.remarks)
    assert len(found.letters) == 16


@pytest.mark.parametrize("explainer", ["occlusion", "mutagenesis", "integrated_gradients", "attention"])
def test_tagged_letters_and_stretches(explainer):
    task = setup(Tagging(), Protein(max_length=24), ["HEC" * 3, "CCH"])
    sequence = "mktay" + "LAGVSERTIDPKQNFYMHWC" * 2
    predictor = Predictor(task)
    (late,) = explain_records(predictor, [sequence], explainer=explainer, of=("H", 40, 43), num_random=2)
    assert (late.target, late.subject) == ("H", " “MHW” (42–44)") or late.subject == " “YMH” (41–43)"
    assert late.num_unread == len(sequence) - len(late.words)
    assert "".join(late.words) == sequence.upper()[late.first : late.first + len(late.words)]
    (one,) = explain_records(predictor, [sequence], explainer=explainer, of="3", num_random=0)
    assert one.span == (3, 4)
    tags = one.prediction["tags"]
    assert one.target == tags[3]
    every = explain_records(predictor, [sequence], explainer=explainer, num_random=0)
    assert [e.target for e in every] == sorted(set(tags))
    (same,) = explain_records(predictor, [sequence], explainer=explainer, of="H,40,43", num_random=0)
    assert same.scores == pytest.approx(late.scores)
    with pytest.raises(ConfigError, match="There are 45 letters"):
        explain_records(predictor, [sequence], of="H,40,60")


def test_the_forward_strand_is_explained_and_named():
    task = setup(Classification(), Dna(max_length=32, reverse_complement=True), ["a", "b"])
    (found,) = explain_records(Predictor(task), ["ACGTTGCA"], explainer="mutagenesis", num_random=0)
    assert found.words == list("ACGTTGCA")
    assert any(r.startswith("The forward strand is explained") for r in found.remarks)


@pytest.mark.parametrize("sequence", ["ACGTTGCAAACGTNACGATCGATTTACG" * 3, "AAAA", "ACG", "ABABAB", "AABBA"])
def test_shuffles_keep_pairs(sequence):
    symbols = [ord(c) for c in sequence]
    rng = np.random.default_rng(0)
    found = [dinucleotide_shuffle(symbols, rng) for _ in range(50)]
    assert all(Counter(pairwise(f)) == Counter(pairwise(symbols)) for f in found)
    assert all((f[0], f[-1]) == (symbols[0], symbols[-1]) for f in found)
    if len(sequence) > 50:
        assert len({tuple(f) for f in found}) == 50


def test_every_shuffle_is_as_probable():
    rng = np.random.default_rng(0)
    symbols = (0, 1, 2, 0, 2, 1, 0, 0)
    pairs = Counter(pairwise(symbols))
    orders = {p for p in permutations(symbols) if p[0] == p[-1] == 0 and Counter(pairwise(p)) == pairs}
    seen = Counter(tuple(dinucleotide_shuffle(symbols, rng)) for _ in range(4000))
    assert set(seen) == orders
    assert chisquare(list(seen.values())).pvalue > 0.01


def test_shuffles_replace_only_hidden_letters(boxes):
    task, sequence = boxes.task, "ACGTTGCAAACGTACGATCG"
    row = {"sequence": sequence}
    pieces = letters_of(task, row, task.process([row])[0]).shuffled(0)
    variants = pieces.hiding(task, [frozenset(), frozenset({2, 3}), frozenset(range(20))])
    ids = pieces.batch["input_ids"][0]
    assert variants.shape == (15, 22)
    assert torch.equal(variants[:5], ids.expand(5, -1))
    assert torch.equal(variants[5:10, [0, 1, 2, *range(5, 22)]], ids[[0, 1, 2, *range(5, 22)]].expand(5, -1))
    assert torch.equal(variants[10:].sort(1).values, ids.sort().values.expand(5, -1))
    assert not torch.equal(variants[10], variants[11])
    assert len(pieces.answers(task, [frozenset(), frozenset({1})], 0)) == 2


def test_motifs_are_found_and_drawn(boxes):
    rows = [r for r in sequences(60, seed=7) if r["label"] == "box"]
    found = explain_records(boxes, rows, explainer="mutagenesis", of="box", num_random=0)
    (motif,) = motifs_of(found)
    consensus = "".join(motif.standard[i] for i in motif.counts.argmax(0))
    assert MOTIF in consensus
    assert 25 <= len(motif.sites) <= motif.num_records == 30
    assert "30 records" in motif.caption
    assert motifs_of(found[:9]) == []
    assert draw_motif(motif).size == (750, 330)
    assert page(found[:10]).count('alt="sequence logo"') == 1


def test_information_by_hand():
    motif = Motif("a", ["AC"] * 10 + ["AG"] * 10, [1] * 20, 20, "DNA")
    bias = 3 / (2 * np.log(2) * 20)
    assert motif.heights.sum(0) == pytest.approx([2 - bias, 1 - bias])
    assert motif.heights[:, 1] == pytest.approx([0, (1 - bias) / 2, (1 - bias) / 2, 0])


def test_renders_to_json_terminal_picture_and_page(boxes, tmp_path):
    found = explain_records(boxes, ["ACGT" * 15, "TATAATG"], explainer="mutagenesis", num_random=2)
    console = Console(record=True, width=120, force_terminal=True)
    for one in found:
        console.print(one.render())
        held = json.loads(json.dumps(one.to_dict()))
        assert np.array(held["mutations"]).shape == (len(one.words), 4)
    assert "ACGTACGT" in console.export_text()
    html = page(found)
    assert len(re.findall(r'class="logo" src="data:image/png', html)) == 2
    assert "http" not in html
    assert "top letters are hidden" in html
    assert write_picture(found, tmp_path / "why.png").exists()

"""DNA and proteins: letters, tokenizers, corpora, both strands, floors and tags."""

from __future__ import annotations

import json
from collections import Counter
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer, EsmConfig, EsmForMaskedLM
from transformers.models.esm.tokenization_esm import EsmTokenizer

import pretune
from pretune import sequence_baselines
from pretune.alphabets import DNA, PROTEIN, reverse_complement
from pretune.errors import ConfigError, DataError, ModelError
from pretune.markov import NeighbourModel, neighbour_floor
from pretune.modalities.dna import Dna
from pretune.modalities.protein import Protein
from pretune.sequence_tokens import vocabulary

LETTERS = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"
"""The alphabet of facebook/esm2_t6_8M_UR50D, in the order of its vocab.txt."""

ESM = tuple(LETTERS.split())


def genome(length: int = 20_000, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length, p=(0.3, 0.2, 0.2, 0.3)))


def test_letters_are_cleaned_and_others_are_named() -> None:
    assert DNA.clean(" acgunry-\n") == "ACGTNRY-"
    assert PROTEIN.clean("mkvUOX*") == "MKVUOX*"
    for alphabet, text, said in ((DNA, "ACGE", '"E" at position 4'), (PROTEIN, "MK V", "white space at position 3")):
        with pytest.raises(DataError, match=said):
            alphabet.clean(text)
    with pytest.raises(DataError, match="found nothing"):
        DNA.clean("  ")


def test_what_looks_like_something_else_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="with which a name in FASTA begins"):
        PROTEIN.clean(">one\nMKV")
    for proteins, said in (([genome(50), genome(60)], True), (["MKVLA", genome(60)], False)):
        protein = Protein()
        protein.learn(proteins)
        protein.corpus(proteins, cache=tmp_path, split="all")
        assert ("are they DNA (--modality dna)?" in capsys.readouterr().err) == said


def test_the_other_strand() -> None:
    assert reverse_complement("AACGTNRY-") == "-RYNACGTT"
    assert reverse_complement(reverse_complement(genome(100))) == genome(100)


def test_the_protein_alphabet_begins_with_that_of_esm() -> None:
    assert tuple(vocabulary(PROTEIN)[: len(ESM)]) == ESM
    assert set(vocabulary(PROTEIN)[len(ESM) :]) == {"J", "*"}


@pytest.mark.parametrize(
    "modality",
    [Protein(), Dna(), Dna(tokenizer="kmer", kmer=3), Dna(tokenizer="bpe", vocab_size=128)],
    ids=["protein", "dna", "kmer", "bpe"],
)
def test_the_saved_tokenizer_gives_the_same_ids(modality: Any, tmp_path: Path) -> None:
    modality.learn([genome()])
    modality.save(tmp_path)
    text = "ACGTNACGTTACGGATTACGATTTGA" if isinstance(modality, Dna) else "MKVLAACXBZJ*"
    again = type(modality)().load(str(tmp_path))
    ids = modality.process({"sequence": text.lower()})["input_ids"]
    assert ids == again.process({"sequence": text})["input_ids"]
    assert ids == AutoTokenizer.from_pretrained(tmp_path)(text.lower())["input_ids"]
    assert again.tokenizer == modality.tokenizer
    assert again.kmer == modality.kmer
    assert modality.special["cls"] == ids[0]
    assert ids[-1] == modality.special["sep"]


def test_k_mers_stand_side_by_side_and_what_is_left_is_single() -> None:
    modality = Dna(tokenizer="kmer", kmer=3)
    modality.learn(None)
    tokens = modality.hf.convert_ids_to_tokens(modality.process({"sequence": "ACGNACGTT"})["input_ids"][1:-1])
    assert tokens == ["ACG", "N", "ACG", "T", "T"]


def test_a_checkpoint_with_esms_own_tokenizer_continues(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(ESM))
    EsmTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 1}
    config = EsmConfig(
        vocab_size=33, intermediate_size=64, position_embedding_type="rotary", mask_token_id=32, token_dropout=True,
        max_position_embeddings=1026, **shape,
    )  # fmt: skip
    EsmForMaskedLM(config).save_pretrained(tmp_path)
    modality = Protein(max_length=1024).load(str(tmp_path))
    assert modality.process({"sequence": "MKVJ"})["input_ids"] == [0, 20, 15, 7, 3, 2], "J is unknown to ESM"
    data = [{"sequence": genome(60, seed=i).replace("T", "K")} for i in range(30)]
    run = pretune.pretrain(
        data, modality="protein", from_=str(tmp_path), out=str(tmp_path / "run"), budget="2steps", batch_size=4
    )  # fmt: skip
    assert AutoModelForMaskedLM.from_pretrained(run.path / "model").config.model_type == "esm"
    with pytest.raises(ConfigError, match="reads at most 1024"):
        Protein(max_length=2000).load(str(tmp_path))


def test_a_tokenizer_of_words_is_refused(tmp_path: Path) -> None:
    modality = Dna()
    modality.learn(None)
    modality.save(tmp_path)
    with pytest.raises(ModelError, match="does not know the letters"):
        Protein().load(str(tmp_path))


def test_a_genome_is_cut_and_both_strands_of_a_piece_are_one_document(tmp_path: Path) -> None:
    modality = Dna()
    modality.learn(None)
    letters = {i: t for t, i in modality.hf.get_vocab().items()}
    contig = genome(20_000)
    parts = {s: modality.corpus([contig], cache=tmp_path, split=s) for s in ("train", "valid")}
    seen = []
    for corpus in parts.values():
        for number in range(corpus.num_documents):
            text = "".join(letters[int(i)] for i in corpus.slice(*corpus.document(number)))
            forward, backward, nothing = text.split("<eos>")
            assert backward == reverse_complement(forward)
            assert not nothing
            seen.append(forward)
    assert sorted(seen) == sorted(contig[i : i + 2048] for i in range(0, len(contig), 2048))
    assert parts["valid"].num_documents >= 1


def test_an_illegal_letter_stops_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("id,sequence\na,ACGT\nb,ACGE\n")
    modality = Dna()
    modality.learn(None)
    with pytest.raises(DataError, match=r'bad.csv, row 3: Found "E" at position 4'):
        modality.corpus(str(tmp_path / "bad.csv"), cache=tmp_path, split="all")


def test_what_is_too_long_is_cut_and_counted() -> None:
    modality = Protein(max_length=10)
    modality.learn(None)
    example = modality.process({"sequence": "MKVLAAAAAAA"})
    assert len(example["input_ids"]) == 10
    assert modality.num_truncated == 1


def test_predictions_are_the_mean_over_both_strands(tmp_path: Path) -> None:
    rows = [{"sequence": genome(30, seed=i), "label": "ab"[i % 2]} for i in range(12)]
    run = pretune.finetune(
        rows, out=str(tmp_path / "run"), scratch=True, size="tiny", budget="3steps", valid_rate=0.0,
        modality={"name": "dna", "reverse_complement": True, "max_length": 64},
    )  # fmt: skip
    predictor = pretune.load(run.path, precision="fp32")
    forward = predictor.predict([rows[0]["sequence"]])[0]["probabilities"]["a"]
    backward = predictor.predict([reverse_complement(rows[0]["sequence"])])[0]["probabilities"]["a"]
    assert forward == pytest.approx(backward, abs=1e-6)
    predictor.task.modality.reverse_complement = False
    one = predictor.predict([rows[0]["sequence"]])[0]["probabilities"]["a"]
    other = predictor.predict([reverse_complement(rows[0]["sequence"])])[0]["probabilities"]["a"]
    assert abs(one - other) > 1e-5
    assert log(forward / (1 - forward)) == pytest.approx(np.mean([log(p / (1 - p)) for p in (one, other)]), abs=1e-4)


def test_a_frozen_encoder_is_judged_on_both_strands(tmp_path: Path) -> None:
    pretune.pretrain([genome()], out=str(tmp_path / "pre"), size="tiny", budget="2steps", modality="dna")
    rows = [{"sequence": genome(30, seed=i), "label": "ab"[i % 2]} for i in range(60)]
    run = pretune.finetune(
        rows[:30], out=str(tmp_path / "run"), from_=str(tmp_path / "pre"), budget="20steps", valid=rows[30:],
        modality={"name": "dna", "reverse_complement": True}, strategy="freeze", num_validations=1, precision="fp32",
    )  # fmt: skip
    found = pretune.evaluate(str(run.path), rows[30:])
    assert run.metrics["accuracy"] == found.metrics["accuracy"]


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    k_mers = {"name": "dna", "tokenizer": "kmer", "kmer": 3}
    for name, text, modality in (("dna", genome(), k_mers), ("protein", "LAGVSERTIDPKQNFYMHWC" * 200, "protein")):
        family = "esm" if name == "protein" else None
        pretune.pretrain(
            [text, text[:500]], out=str(tmp_path / name), size="tiny", budget="1steps", modality=modality, family=family
        )
    tags = [{"sequence": genome(30, seed=i), "tags": "01" * 15} for i in range(12)]
    options = {"out": str(tmp_path / "run"), "modality": "dna", "budget": "1steps"}
    with pytest.raises(ConfigError, match='needs a token a letter, and the tokenizer is "kmer"; pre-train with single'):
        pretune.finetune(tags, from_=str(tmp_path / "dna"), task="tagging", **options)
    rows = [{"sequence": genome(30, seed=i), "label": "ab"[i % 2]} for i in range(12)]
    with pytest.raises(ModelError, match="tokens are amino acids and not bases"):
        pretune.finetune(rows, from_=str(tmp_path / "protein"), **options)
    assert not (tmp_path / "run").exists()


def test_a_table_of_genes_and_proteins_gives_what_the_modality_reads(tmp_path: Path) -> None:
    rows = [{"dna": genome(30, seed=i), "protein": "LAGVSERT", "label": "ab"[i % 2]} for i in range(12)]
    for modality, letters in (("dna", 360), ("protein", 96)):
        assert pretune.check(rows, task="classification", modality=modality).facts["total letters"] == letters
        assert pretune.check(rows, modality=modality).facts["total letters"] == letters


def test_a_letter_that_is_none_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [{"sequence": genome(30, seed=i), "label": "ab"[i % 2]} for i in range(12)]
    pd.DataFrame([*rows, {"sequence": "ACGTQ", "label": "a"}]).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=r'a\.csv, row 14: Found "Q" at position 5'):
        pretune.finetune(str(tmp_path / "a.csv"), out=str(tmp_path / "run"), scratch=True, modality="dna")


def test_a_tag_for_each_residue(tmp_path: Path) -> None:
    """The tag of a residue is its own letter's: helix for A, strand for V, else coil."""
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("AVGK"), int(n))) for n in rng.integers(20, 90, 60)]
    rows = [{"sequence": s, "tags": "".join({"A": "H", "V": "E"}.get(c, "C") for c in s)} for s in sequences]
    file = tmp_path / "tags.jsonl"
    file.write_text("\n".join(map(json.dumps, rows[:50])))
    run = pretune.finetune(
        str(file), out=str(tmp_path / "run"), scratch=True, size="tiny", task="tagging", budget="120steps", lr=2e-3,
        modality={"name": "protein", "max_length": 40}, test=rows[50:],
    )  # fmt: skip
    assert run.metrics["test_accuracy"] > 0.95, "long sequences are tagged in windows"
    (tmp_path / "new.fasta").write_text("".join(f">p{i} x\n{r['sequence']}\n" for i, r in enumerate(rows[50:])))
    found = pretune.load(run.path).predict(str(tmp_path / "new.fasta"))
    assert [f["id"] for f in found] == [f"p{i}" for i in range(10)]
    assert [len(f["tags"]) for f in found] == [len(r["sequence"]) for r in rows[50:]]
    assert AutoModelForTokenClassification.from_pretrained(run.path / "model").config.num_labels == 3
    with pytest.raises(DataError, match="must be as many"):
        pretune.finetune(
            [*rows, {"sequence": "AVG", "tags": "HE"}], out=str(tmp_path / "bad"), scratch=True, size="tiny",
            task="tagging", modality="protein",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"objective": "bert", "modality": "dna"}, "has none; give --objective mlm"),
        ({"modality": "dna", "init": "cooccurrence"}, "--init cooccurrence has no effect on dna"),
        ({"modality": {"name": "dna", "reverse_complement": True}}, "reverse_complement has no effect in pre-training"),
    ],
)
def test_options_without_effect_are_errors(arguments: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        pretune.pretrain([genome()], out=str(tmp_path / "run"), budget="1steps", **arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokenizer": "kmers"}, "There is no tokenizer"),
        ({"kmer": 4}, "kmer has no effect"),
        ({"tokenizer": "kmer", "kmer": 12}, "from 2 to 8"),
        ({"tokenizer": "bpe", "vocab_size": 100}, "multiple of 64"),
        ({"max_length": 3}, "at least 8"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Dna(**options)
    with pytest.raises(ConfigError, match="needs a token a letter"):
        pretune.finetune(
            [], out="nowhere", scratch=True, task="tagging", modality={"name": "dna", "tokenizer": "kmer"}
        )  # fmt: skip


@pytest.mark.parametrize("family", ["modernbert", "esm", "bert"])
@pytest.mark.parametrize("objective", ["mlm", "electra", "autoencoder", "contrastive"])
def test_every_objective_and_family_trains_on_sequences(objective: str, family: str, tmp_path: Path) -> None:
    run = pretune.pretrain(
        [genome(3000, seed=i) for i in range(4)], out=str(tmp_path / "run"), objective=objective, family=family,
        size="tiny", modality={"name": "dna", "max_length": 32}, budget="2steps", batch_size=2, cache=str(tmp_path),
    )  # fmt: skip
    assert np.isfinite(run.metrics["loss"])


class Stream:
    """A token stream in memory."""

    def __init__(self, ids: np.ndarray, vocab_size: int) -> None:
        self.ids, self.vocab_size = ids, vocab_size

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, stop: int) -> np.ndarray:
        return self.ids[start:stop]


def test_the_neighbour_model_counts_as_by_hand() -> None:
    ids, other = np.array([0, 1, 2, 0, 1, 2, 0, 2, 2, 1]), np.array([2, 0, 1, 1, 0])
    model = NeighbourModel(ids, vocab_size=3, reach=1)
    between, pairs = Counter(), Counter()
    for left, token, right in zip(ids, ids[1:], ids[2:], strict=False):
        between[left, right] += 1
        pairs[left, token, right] += 1
    losses = []
    for left, token, right in zip(other, other[1:], other[2:], strict=False):
        prior = (np.count_nonzero(ids == token) + 1) / (len(ids) + 3)
        losses.append(-log((pairs[left, token, right] + 2.0 * prior) / (between[left, right] + 2.0)))
    assert model.losses(other, 2.0)[1] == pytest.approx(np.mean(losses), abs=1e-12)


def test_the_floor_finds_a_rule_between_neighbours_and_none_in_noise() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(4, size=60_000)
    loss, near = neighbour_floor(Stream(noise[:50_000], 4), Stream(noise[50_000:], 4))
    assert loss == pytest.approx(log(4), abs=0.003)
    ruled = noise.copy()
    ruled[1::3] = (ruled[0::3] + ruled[2::3]) % 4
    loss, near = neighbour_floor(Stream(ruled[:50_000], 4), Stream(ruled[50_000:], 4))
    assert near > 0
    assert loss < log(4) - 0.1


def test_baselines_find_a_planted_motif_and_letters_by_place() -> None:
    rng = np.random.default_rng(0)
    sequences = [genome(int(n), seed=i) for i, n in enumerate(rng.integers(80, 120, 120))]
    labels = [i % 2 for i in range(120)]
    planted = [s[:20] + "GGCCGGCC" * 2 + s[36:] if y else s for s, y in zip(sequences, labels, strict=True)]
    found = sequence_baselines.kmer_logistic(planted[:80], labels[:80], planted[80:])
    assert np.mean([f["label"] == y for f, y in zip(found, labels[80:], strict=True)]) > 0.9
    short = [s[:40] for s in sequences]
    placed = [sum(c == "A" for c in s[10:14]) for s in short]
    values = sequence_baselines.kmer_ridge(short[:90], placed[:90], short[90:])
    assert np.corrcoef(values, placed[90:])[0, 1] > 0.6


def test_windows_tag_residues_and_blosum_is_symmetric() -> None:
    matrix = sequence_baselines.blosum62()
    assert (matrix == matrix.T).all()
    assert matrix[PROTEIN.standard.index("W"), PROTEIN.standard.index("W")] == 11
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("AVGK"), 60)) for _ in range(20)]
    tags = [["H" if "A" in s[max(0, i - 1) : i + 2] else "C" for i in range(60)] for s in sequences]
    for letters in ("one_hot", "blosum62"):
        found = sequence_baselines.window_logistic(sequences[:15], tags[:15], sequences[15:], letters=letters)
        assert np.mean(np.array(found) == np.array(tags[15:])) > 0.9


def test_embeddings_of_esm_are_a_multiple_of_64() -> None:
    modality = Protein()
    modality.learn(None)
    config = modality.config("tiny", "esm")
    assert config.vocab_size == 64
    model = EsmForMaskedLM(config)
    ids = torch.tensor([modality.process({"sequence": "MKVL"})["input_ids"]])
    assert model(ids).logits.shape == (1, 6, 64)

"""Near sequences are found together, unrelated ones apart."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from pretune import homology, kmers
from pretune.errors import ConfigError
from pretune.homology import clusters, near, nearest

PROTEIN, DNA = "ACDEFGHIKLMNPQRSTVWY", "ACGT"


def random(rng, letters: str, length: int = 300) -> str:
    return "".join(rng.choice(list(letters), length))


def mutated(rng, sequence: str, letters: str, share: float = 0.05) -> str:
    found = np.array(list(sequence))
    places = rng.choice(len(found), round(share * len(found)), replace=False)
    found[places] = rng.choice(list(letters), len(places))
    return "".join(found)


def families(letters: str, count: int = 20, copies: int = 3) -> tuple[list[str], list[int]]:
    rng = np.random.default_rng(0)
    # half of the 12-mers is near what 5 % leave of them: short DNA may have less by chance
    founders = [random(rng, letters, 300 if letters == PROTEIN else 1500) for _ in range(count)]
    every = [(mutated(rng, f, letters), i) for i, f in enumerate(founders) for _ in range(copies)]
    every += [(f, i) for i, f in enumerate(founders)]
    order = rng.permutation(len(every))
    return [every[i][0] for i in order], [every[i][1] for i in order]


def same_parts(found, expected) -> bool:
    pairs = set(zip(list(map(int, found)), expected, strict=True))
    return len(pairs) == len(set(found.tolist())) == len(set(expected))


@pytest.mark.parametrize(("modality", "letters"), [("protein", PROTEIN), ("dna", DNA)])
def test_families_are_found(modality, letters):
    sequences, expected = families(letters)
    assert same_parts(clusters(sequences, **near(modality)._asdict()), expected)


def test_reverse_complements_of_dna_are_near():
    rng = np.random.default_rng(1)
    one = random(rng, DNA)
    turned = one[::-1].translate(str.maketrans("ACGT", "TGCA"))
    trio = [one, mutated(rng, turned, DNA, 0.02), random(rng, DNA)]
    assert clusters(trio, **near("dna")._asdict()).tolist() == [0, 0, 1]
    assert clusters(trio, k=12, identity=0.5, strands=1).tolist() == [0, 1, 2]
    assert clusters([one[:9], turned[-9:].lower(), "ACG"], **near("dna")._asdict()).tolist() == [0, 0, 1]
    assert clusters([one, one.replace("T", "U").lower()], **near("dna")._asdict()).tolist() == [0, 0]


def test_links_are_chained():
    """Single linkage: the ends have nothing in common but what is between them."""
    text = random(np.random.default_rng(2), PROTEIN, 900)
    pieces = [text[i : i + 300] for i in range(0, 601, 150)]
    assert set(clusters(pieces, identity=0.4).tolist()) == {0}
    assert len(set(clusters(pieces, identity=0.6).tolist())) == len(pieces)


def test_parts_are_near_the_whole():
    rng = np.random.default_rng(3)
    whole = random(rng, PROTEIN, 1000)
    shares = nearest([whole[100:200], random(rng, PROTEIN), whole, "MK"], [random(rng, PROTEIN), whole])
    assert shares[0] == shares[2] == 1
    assert shares[1] < 0.05
    assert shares[3] == 0


def test_shares_follow_the_mutations():
    """A k-mer survives when all its letters do."""
    rng = np.random.default_rng(4)
    train = [random(rng, PROTEIN, 2000) for _ in range(5)]
    shares = nearest([mutated(rng, s, PROTEIN[:10], 0.1) for s in train], train)
    assert np.allclose(shares, (1 - 0.1 * 0.975) ** 5, atol=0.05)
    assert nearest(train, []).tolist() == [0] * 5
    assert nearest([], train).tolist() == []


def test_low_complexity_links_nothing():
    rng = np.random.default_rng(5)
    runs = [random(rng, PROTEIN) + "Q" * 30 for _ in range(4)]
    assert len(set(clusters([*runs, "Q" * 50, "Q" * 60]).tolist())) == 6
    unknown = ["X" * 100, "X" * 50 + "N" * 100, "N" * 99]
    assert len(set(clusters(unknown, **near("dna")._asdict()).tolist())) == 3


def test_no_sequences():
    assert clusters([]).tolist() == []
    assert clusters(["", "M"]).tolist() == [0, 1]


def test_large_families_and_samples_give_the_same(monkeypatch):
    """What is done to save time and memory changes no clear case."""
    sequences, expected = families(PROTEIN, 10, 40)
    monkeypatch.setattr(homology, "_MUCH", 1e3)
    monkeypatch.setattr(homology, "_FREQUENT", 5)
    assert same_parts(clusters(sequences), expected)
    monkeypatch.setattr(homology, "_WORK", 1e5)
    assert same_parts(clusters(sequences), expected)
    monkeypatch.setattr(kmers, "_KEPT", 60_000)
    assert same_parts(clusters(sequences), expected)
    assert (nearest(sequences[:50], sequences[50:]) > 0.3).all()


def test_long_dna_needs_longer_words():
    assert near("dna", 200) == (12, 0.5, 2)
    assert near("dna", 5_000_000).k == 16
    assert near("protein", 35_000).k == 5


@pytest.mark.parametrize("wrong", [{"k": 1}, {"identity": 0}, {"identity": 1.5}, {"strands": 3}])
def test_options_out_of_range(wrong):
    with pytest.raises(ConfigError, match="Expected k from 2"):
        clusters(["ACGT"], **wrong)


@pytest.mark.skipif(shutil.which("mmseqs") is None, reason="no mmseqs here")
def test_mmseqs():
    sequences, expected = families(PROTEIN)
    assert same_parts(clusters(sequences, mmseqs=True), expected)


@pytest.mark.skipif(shutil.which("mmseqs") is not None, reason="mmseqs is here")
def test_no_mmseqs():
    with pytest.raises(ConfigError, match="mmseqs is not on the PATH"):
        clusters(["ACGT"], mmseqs=True)

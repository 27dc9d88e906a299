"""Every corruption of every modality: labels stay, a seed gives the same records, severities are ordered."""

from __future__ import annotations

import numpy as np
import pytest

import planted_images
import planted_sounds
from pretune import registry
from pretune.audio_reading import samples
from pretune.corruptions.base import corrupted
from pretune.image_reading import picture

MODALITIES = registry.names("modality")


def records(name: str) -> list[dict]:
    rng = np.random.default_rng(0)
    if name == "text":
        words = ["Colourless", "green", "ideas", "sleep", "furiously", "tonight", ",", "I"]
        return [{"text": "  ".join(rng.choice(words, 12)), "text_pair": "a b", "label": "x"} for _ in range(40)]
    if name == "image":
        return planted_images.boxed(4)
    if name == "audio":
        return planted_sounds.spoken(4)
    letters = "ACGTN" if name == "dna" else "ACDEFGHIKLMNPQRSTVWYX"
    return [{"sequence": "".join(rng.choice(list(letters), 300)), "label": "x"} for _ in range(20)]


def change(name: str, before: dict, after: dict) -> float:
    """How far an input moved."""
    if name == "image":
        a, b = (np.asarray(picture(r["image"]), float) for r in (before, after))
        return float(np.square(a - b).mean())
    if name == "audio":
        a, b = (samples(r["audio"], planted_sounds.RATE).astype(float) for r in (before, after))
        return float(np.square(a - b).mean())
    a, b = (r.get("sequence") or r["text"] for r in (before, after))
    longest = max(len(a), len(b))
    return float(sum(x != y for x, y in zip(a.ljust(longest), b.ljust(longest), strict=True)))


@pytest.mark.parametrize("name", MODALITIES)
def test_corruptions(name):
    modality, rows = registry.build("modality", name), records(name)
    known = modality.corruptions()
    assert len(known) >= 2
    assert len({c.name for c in known}) == len(known)
    for corruption in known:
        distances = []
        for k in range(len(corruption.severities)):
            found = corrupted(corruption, k, rows, 3)
            again = corrupted(corruption, k, rows[:2], 3)
            assert [change(name, a, b) for a, b in zip(found, again, strict=False)] == [0, 0]
            others = [{r: v for r, v in f.items() if r not in modality.inputs} for f in found]
            assert others == [{r: v for r, v in b.items() if r not in modality.inputs} for b in rows]
            distances.append(np.mean([change(name, a, b) for a, b in zip(rows, found, strict=True)]))
            assert corruption.parameter(k)
        assert distances[0] >= 0
        assert distances == sorted(distances) or corruption.name == "words lost", corruption.name
        assert distances[-1] > 0, corruption.name


def test_words_of_tags_keep_their_number_and_are_never_empty():
    rows = [{"tokens": ["I", "saw", "Anna", "in", "Oslo", "."], "tags": ["O", "O", "B", "O", "B", "O"]}] * 20
    for corruption in registry.build("modality", "text").corruptions():
        found = corrupted(corruption, 2, rows, 0)
        assert any(f["tokens"] != rows[0]["tokens"] for f in found), corruption.name
        assert all(len(f["tokens"]) == 6 and all(w.strip() for w in f["tokens"]) for f in found)
        assert all(f["tags"] == rows[0]["tags"] for f in found)


@pytest.mark.parametrize("name", ["dna", "protein"])
def test_substitutions_come_at_their_rate_and_keep_length_and_unusual_letters(name):
    modality = registry.build("modality", name)
    text = modality.alphabet.standard * 500 + modality.alphabet.others * 20
    for corruption in modality.corruptions():
        found = corrupted(corruption, 2, [{"sequence": text}], 1)[0]["sequence"]
        assert len(found) == len(text)
        usual = len(modality.alphabet.standard) * 500
        assert found[usual:] == text[usual:]
        share = np.mean([a != b for a, b in zip(text[:usual], found[:usual], strict=True)])
        assert share == pytest.approx(corruption.severities[2], abs=0.02)


def test_like_residues_are_like():
    table = {c.name: c for c in registry.build("modality", "protein").corruptions()}
    found = corrupted(table["like residues (BLOSUM62)"], 2, [{"sequence": "I" * 20_000}], 0)[0]["sequence"]
    # isoleucine: BLOSUM62 gives V 3, L 2, M 1 and nothing else above 0
    counts = {letter: found.count(letter) for letter in "VLMFGW"}
    assert counts["V"] > counts["L"] > counts["M"] > counts["F"] > counts["G"]


def test_noise_has_the_stated_ratio():
    row = planted_sounds.classed(1)[0]
    noise = next(c for c in registry.build("modality", "audio").corruptions() if c.name == "white noise")
    before = samples(row["audio"], planted_sounds.RATE) / 2**15
    for k, decibels in enumerate(noise.severities[:2]):
        after = np.asarray(corrupted(noise, k, [row], 0)[0]["audio"]["array"], float)
        ratio = 10 * np.log10(np.square(before).mean() / np.square(after - before).mean())
        assert ratio == pytest.approx(decibels, abs=0.3)


def test_letters_hit_are_neighbours():
    keys = next(c for c in registry.build("modality", "text").corruptions() if c.name == "neighbouring keys")
    found = corrupted(keys, 2, [{"text": "s" * 5000}], 0)[0]["text"]
    assert set(found) == set("swedxza")
    assert np.mean([c != "s" for c in found]) == pytest.approx(0.1, abs=0.02)

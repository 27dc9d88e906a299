"""Contact maps, corrected attention and precision, against scipy, the formula and a map made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from transformers import EsmModel

from pretune.contact_maps import (
    ContactScores,
    as_coordinates,
    average_product_correction,
    is_contact,
    pair_distances,
    ranked_pairs,
)
from pretune.pair_head import AttentionHead
from protein_stand_in import ESM


def test_distances_and_contacts_are_those_of_scipy():
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(40, 3)) * 8).astype(np.float32)
    true = cdist(points, points)
    points[7] = np.nan
    found = pair_distances(torch.from_numpy(points))
    keep = np.arange(40) != 7
    np.testing.assert_allclose(found.numpy()[np.ix_(keep, keep)], true[np.ix_(keep, keep)], rtol=1e-4, atol=1e-4)
    contacts = is_contact(found, cutoff=8.0, min_separation=6).numpy()
    for i in range(40):
        for j in range(40):
            expected = -1 if 7 in (i, j) or abs(i - j) < 6 else int(true[i, j] < 8)
            assert contacts[i, j] == expected


def test_coordinates_with_missing_atoms():
    found = as_coordinates([[1, 2, 3], None, [None, 0, 0], [float("nan"), 1, 1]])
    assert np.isnan(found[1:]).all()
    assert found[0].tolist() == [1, 2, 3]
    for bad in ([], "x", [[1, 2]], [1, 2, 3], [[1, 2, "x"]]):
        with pytest.raises(ValueError, match="expected"):
            as_coordinates(bad)


def test_correction_is_the_formula_and_makes_sums_of_a_product_vanish():
    maps = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    maps = maps + maps.transpose(-1, -2)
    found = average_product_correction(maps)
    for b, h, i, j in ((0, 0, 1, 2), (1, 2, 8, 0)):
        m = maps[b, h]
        assert found[b, h, i, j].item() == pytest.approx((m[i, j] - m[i].sum() * m[:, j].sum() / m.sum()).item())
    vector = torch.rand(9, dtype=torch.float64)
    torch.testing.assert_close(average_product_correction(torch.outer(vector, vector)), torch.zeros(9, 9).double())


def test_attention_head_is_the_contact_head_of_transformers():
    torch.manual_seed(0)
    model = EsmModel(ESM).eval()
    model.set_attn_implementation("eager")
    tokens = torch.tensor([[0, *torch.randint(4, 24, (14,)).tolist(), 2]])
    mask = torch.ones_like(tokens)
    head = AttentionHead(4, [0.3])
    torch.nn.init.normal_(head.outputs.weight)
    with torch.no_grad():
        model.contact_head.regression.weight.copy_(head.outputs.weight * 14)  # ours weighs maps times the length
        model.contact_head.regression.bias.fill_(float(head.outputs.bias))
        theirs = model.predict_contacts(tokens, mask)
        attentions = model(tokens, attention_mask=mask, output_attentions=True).attentions
        ours = head([a[..., 1:-1, 1:-1] for a in attentions], torch.ones(1, 14, dtype=torch.bool))
    torch.testing.assert_close(ours[..., 0].sigmoid(), theirs, rtol=1e-4, atol=1e-5)


def test_precision_on_a_map_made_by_hand():
    points = np.array([[100.0 * k, 0, 0] for k in range(60)], np.float32)
    points[30] = points[0] + [0, 5, 0]  # contacts: 1-31 and 2-42 (long), 3-18 (medium), 4-11 (short)
    points[41] = points[1] + [0, 5, 0]
    points[17] = points[2] + [0, 5, 0]
    points[10] = points[3] + [0, 5, 0]
    points[59] = np.nan
    pairs = [(1, 60, 0.99), (1, 31, 0.9), (1, 40, 0.8), (3, 18, 0.7), (2, 42, 0.6), (4, 11, 0.3), (5, 12, 0.2)]
    found = ContactScores([pairs], [points], cutoff=8, min_separation=6).metrics([0])
    assert found["long_p_l5"] == pytest.approx(2 / 3)  # the pair with the missing atom is passed over
    assert found["medium_p_l5"] == 1
    assert found["short_p_l5"] == pytest.approx(1 / 2)
    number = sum(59 - s for s in range(24, 59))
    assert found["random_long_p_l5"] == pytest.approx(2 / number)
    assert found["nearest_long_p_l5"] == 0


def test_a_perfect_ranking_has_precision_one_and_ranking_is_by_probability():
    rng = np.random.default_rng(1)
    points = (rng.normal(size=(80, 3)) * 9).astype(np.float32)
    truth = is_contact(pair_distances(torch.from_numpy(points)), cutoff=8, min_separation=6).numpy()
    pairs = ranked_pairs((truth == 1) * 0.9 + 0.01, min_separation=6)
    found = ContactScores([pairs], [points], cutoff=8, min_separation=6).metrics([0])
    assert found["long_p_l5"] == found["medium_p_l5"] == 1
    assert found["random_long_p_l5"] < 0.5
    assert all(i < j for i, j, _ in pairs)
    values = [p for _, _, p in pairs]
    assert values == sorted(values, reverse=True)

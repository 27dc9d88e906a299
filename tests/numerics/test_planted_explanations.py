"""The planted piece ranks first and passes every test; of a model that reads nothing, nothing does."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from rich.console import Console

import planted_models
from pretune import registry
from pretune.errors import ConfigError, ModelError
from pretune.evaluation import evaluating
from pretune.explaining import Explaining
from pretune.explanation import page

CASES = {
    **{f"text-{task}": partial(planted_models.text, task) for task in ("classification", "regression", "tagging")},
    **{f"dna-{task}": partial(planted_models.sequence, task) for task in ("classification", "regression")},
    **{
        f"protein-{task}": partial(planted_models.sequence, task, protein=True)
        for task in ("classification", "regression", "tagging", "contacts", "structure")
    },
    **{
        f"image-{task}": partial(planted_models.image, task)
        for task in ("classification", "regression", "detection", "segmentation")
    },
    **{f"sound-{task}": partial(planted_models.sound, task) for task in ("classification", "regression", "ctc")},
    "waveform-classification": partial(planted_models.sound, "classification", family="wav2vec2"),
}
REFUSED = {
    "mutagenesis": ("text", "image", "sound", "waveform"),
    "attention": ("image", "sound", "waveform"),  # these models attend to nothing
}

OPTIONS = {
    ("image", "occlusion"): {"name": "occlusion", "window": 1},  # two patches at once cannot tell which it was
    ("text", "attention"): {"name": "attention", "residual_rate": 0.0},  # this model has no residual connection
}


def explained(case, explainer, deaf):
    predictor, record, pieces, of = CASES[case](deaf=deaf)
    one = Explaining(predictor, explainer, of=of, sanity=4)
    with evaluating(predictor.task):
        (found,) = one(record, predictor.task.process([record])[0])
    return found, pieces


def order(found):
    """Pieces by score, highest first."""
    if found.kind == "patches":
        side = found.patch
        height, width = found.scores.shape
        blocks = found.scores.reshape(height // side, side, width // side, side).sum((1, 3))
        return np.argsort(-blocks.flatten(), kind="stable").tolist()
    scores = found.cells.flatten() if found.kind == "sound" else found.scores
    return np.argsort(-np.asarray(scores), kind="stable").tolist()


@pytest.mark.parametrize("explainer", registry.names("explainer"))
@pytest.mark.parametrize("case", CASES)
def test_what_the_model_reads_is_found(case, explainer):
    if case.split("-")[0] in REFUSED.get(explainer, ()):
        with pytest.raises((ConfigError, ModelError)):
            explained(case, explainer, False)
        return
    found, pieces = explained(case, OPTIONS.get((case.split("-")[0], explainer), explainer), False)
    assert order(found)[0] in pieces
    tested = found.faithfulness
    assert tested.comprehensiveness > tested.random_comprehensiveness.high
    assert tested.deletion.area < tested.deletion.random_area.low
    assert tested.insertion.area > tested.insertion.random_area.high
    assert tested.level == "better", tested.verdict
    assert found.sanity.passed, found.sanity.verdict
    assert found.reliable


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_reads_nothing_is_not_explained(case):
    found, _ = explained(case, "occlusion", True)
    assert found.faithfulness.level == "no better"
    assert found.sanity.passed is None
    assert found.reliable is False
    facts = found.to_dict()
    assert facts["reliable"] is False
    assert facts["faithfulness"]["level"] == "no better"
    console = Console(record=True, width=200, force_terminal=True, color_system="truecolor")
    console.print(found.render())
    line = next(x for x in console.export_text(styles=True).splitlines() if "No better than random" in x)
    assert line.startswith("\x1b[1;31m")
    assert '<p class="verdict bad">No better than random' in page([found])

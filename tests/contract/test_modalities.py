"""What every modality and explainer must say about itself; a new file is tested without a line here."""

from __future__ import annotations

import pytest
import transformers

from pretune import registry

KINDS = {"tokens": "input_ids", "pixels": "pixel_values", "waveform": "input_features"}
MODALITIES, EXPLAINERS = registry.names("modality"), registry.names("explainer")


@pytest.mark.parametrize("name", MODALITIES)
def test_a_modality_states_its_kind_inputs_and_family(name):
    modality = registry.build("modality", name)
    assert modality.main_input == KINDS[modality.kind]
    first, *_ = modality.inputs
    assert modality.inputs[first], "the usual column names of the first input"
    assert hasattr(transformers, modality.loader)
    assert isinstance(modality.family, str)


@pytest.mark.parametrize(
    ("slot", "name"), [("modality", n) for n in MODALITIES] + [("explainer", n) for n in EXPLAINERS]
)
def test_options_are_what_was_given(slot, name):
    method = registry.build(slot, name)
    assert registry.build(slot, method.spec()).options() == method.options()
    assert registry.summary(slot, name)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_an_explainer_accepts_some_kind(name):
    assert registry.find("explainer", name).accepts <= set(KINDS)
    assert registry.find("explainer", name).accepts

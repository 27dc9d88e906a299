"""Models that join an encoder of transformers to a head of ours, as transformers' Auto classes would build them."""

from __future__ import annotations

__all__ = ["AutoJoined", "bare_encoder"]

import functools
import inspect
from typing import Any

from transformers import MODEL_MAPPING, PretrainedConfig, PreTrainedModel

from pretune.errors import ModelError


class AutoJoined:
    """Builds or loads a joined model around any encoder, as transformers' Auto classes do for theirs.

    The model's config is the encoder's own, with a mapping of the head beside it. The encoder's tensors have the names
    that transformers' own classes with a head give them, so `AutoModel.from_pretrained` loads the encoder from the
    saved directory.

    Args:
        model: The class that is joined to the base class of an architecture; makes its encoder by `bare_encoder`.
        purpose: End of the class name, such as ``Detection``.
        reads: Main input of the encoders that fit.
        wanted: What they read and which do, for the message when one does not.
    """

    _model_mapping = MODEL_MAPPING

    def __init__(self, model: Any, purpose: str, *, reads: str, wanted: str) -> None:
        self.purpose = purpose
        self.__name__ = f"AutoModelFor{purpose}"
        self._model, self._reads, self._wanted = model, reads, wanted

    def from_config(self, config: PretrainedConfig) -> PreTrainedModel:
        """A model with random weights."""
        return self._class_for(config)(config)

    def from_pretrained(self, folder: str, *, config: PretrainedConfig, **options: Any) -> Any:
        """A model with the weights of a directory or Hub name, as `PreTrainedModel.from_pretrained` gives it."""
        return self._class_for(config).from_pretrained(folder, config=config, **options)

    def _class_for(self, config: PretrainedConfig) -> Any:
        kind: Any = type(config)
        encoder = _encoder_class(kind)
        if encoder is None or getattr(encoder, "main_input_name", "") != self._reads:
            raise ModelError(f"A {kind.model_type} model does not read {self._wanted}.")
        return _joined(self._model, encoder, kind, self.purpose)


def _encoder_class(config_class: Any) -> Any:
    found: Any = MODEL_MAPPING.get(config_class, None)
    return found[0] if isinstance(found, tuple) else found


@functools.cache
def _joined(model: Any, encoder: Any, config_class: Any, purpose: str) -> Any:
    """The class that joins a model to the base class of an architecture, as ViTForDetection."""
    base = next(c for c in encoder.__mro__[1:] if issubclass(c, PreTrainedModel))
    name = f"{encoder.__name__.removesuffix('Model')}For{purpose}"
    return type(name, (model, base), {"__module__": model.__module__, "config_class": config_class})


def bare_encoder(config: PretrainedConfig) -> Any:
    """The encoder of a config with random weights, without a pooler."""
    encoder = _encoder_class(type(config))
    pooling = "add_pooling_layer" in inspect.signature(encoder.__init__).parameters
    return encoder(config, add_pooling_layer=False) if pooling else encoder(config)

"""Build or load transformers models, say exactly what was loaded, and know their layers."""

from __future__ import annotations

__all__ = [
    "Source",
    "TransferReport",
    "blocks",
    "depths",
    "make",
    "num_layers",
    "quiet",
    "read_config",
    "tuning_lr",
    "width",
]

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as hf_logging

from pretune.errors import ModelError, similar

_USUAL = 0.04
_WIDTH_TIMES_LR = {"resnet": 0.25}
"""Learning rate of fine-tuning times width, where it is not the usual: batch normalisation rescales all weights."""

Source: TypeAlias = str | Path | PretrainedConfig
"""A local model directory or Hub name to load from, or a config to start from scratch with."""


@dataclass(frozen=True)
class TransferReport:
    """What came from the checkpoint and what is new (names of tensors in the built model)."""

    num_tensors: int
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    scratch: bool = False

    @property
    def num_loaded(self) -> int:
        """Tensors taken from the checkpoint."""
        return 0 if self.scratch else self.num_tensors - len(self.new)

    def __str__(self) -> str:
        if self.scratch:
            return f"from scratch: {self.num_tensors} tensors, all random"
        new = ", ".join(self.new) or "none"
        return f"loaded {self.num_loaded} of {self.num_tensors} tensors; new: {new}"


def read_config(source: str | Path) -> PretrainedConfig:
    """The config of a local directory or Hub name.

    Raises:
        ModelError: No such directory or name, or no readable config.json in it.
    """
    folder = model_folder(source)
    if (Path(source) / "recipe.yaml").is_file() and folder == str(source):
        raise ModelError(f'"{source}" is a run that has not finished (it has no model yet); repeat its command first.')
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f'"{source}" is neither a directory with a readable config.json nor a Hub model that can be reached '
            f"({_first_line(error)}); give a pretune run, a model directory or a Hub name.{similar(Path(source))}"
        ) from error


def model_folder(source: str | Path) -> str:
    """The model directory inside a run directory, or the source itself."""
    inner = Path(source) / "model"
    return str(inner if (inner / "config.json").is_file() else source)


def make(auto_class: Any, source: Source, **overrides: Any) -> tuple[PreTrainedModel, TransferReport]:
    """Builds the model of `auto_class` from a checkpoint, or from a config with random weights.

    Raises:
        ModelError: The weights are missing, or none of the encoder's tensors are in them.
    """
    if isinstance(source, PretrainedConfig):
        for key, value in overrides.items():
            setattr(source, key, value)
        model = _prepared(_from_config(auto_class, source))
        names = _tensor_names(model)
        return model, TransferReport(len(names), new=names, scratch=True)
    config = read_config(source)
    with quiet():
        model, info = _load(auto_class, source, config, overrides)
    _prepared(model)
    report = _report(model, info)
    _check_encoder_loaded(model, report, source)
    return model, report


def _prepared(model: Any) -> Any:
    if model.config.model_type == "esm":
        from pretune import esm  # only here: it takes time to import

        esm.hasten(model)
    if hasattr(model.config, "conv_stride"):
        from pretune import wave_convolutions

        wave_convolutions.hasten(model)
    return _without_cached_positions(model)


def _without_cached_positions(model: Any) -> Any:
    """Lets w2v-BERT make its rotary angles in every pass: those that inference made cannot be trained with."""

    def forget(module: Any, _: Any) -> None:
        module.cached_sequence_length = None

    for module in model.modules():
        if hasattr(module, "cached_rotary_positional_embedding"):
            module.register_forward_pre_hook(forget)
    return model


def _from_config(auto_class: Any, config: PretrainedConfig) -> Any:
    try:
        return auto_class.from_config(config)
    except ValueError as error:
        raise ModelError(_unfit(auto_class, config)) from error


def _unfit(auto_class: Any, config: PretrainedConfig) -> str:
    wanted = auto_class.__name__.removeprefix("AutoModel").removeprefix("For") or "encoder"
    return f'A "{config.model_type}" model has no form for {wanted}; give a checkpoint of an encoder, such as BERT.'


def _load(auto_class: Any, source: str | Path, config: Any, overrides: dict[str, Any]) -> tuple[Any, Any]:
    try:
        return auto_class.from_pretrained(
            model_folder(source),
            config=_with(config, overrides),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except SafetensorError as error:
        raise ModelError(f'The weights in "{source}" are damaged ({error}); copy or train them again.') from error
    except (OSError, ValueError) as error:
        if type(config) not in auto_class._model_mapping:
            raise ModelError(_unfit(auto_class, config)) from error
        raise ModelError(_no_weights(source, error)) from error


def _no_weights(source: str | Path, error: Exception) -> str:
    folder = Path(model_folder(source))
    pickled = sorted(f.name for f in folder.glob("*.bin")) if folder.is_dir() else []
    if pickled:
        return (
            f'"{source}" has its weights in {pickled[0]} only, a pickle, which can run code when it is loaded; '
            "give a directory with model.safetensors (`model.save_pretrained` of transformers writes it)."
        )
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        return f'"{source}" has a config.json and no weights (model.safetensors); copy them there or train it again.'
    return f'Cannot load weights from "{source}" ({_first_line(error)}); give a checkpoint with safetensors.'


def _with(config: PretrainedConfig, overrides: dict[str, Any]) -> PretrainedConfig:
    for key, value in overrides.items():
        setattr(config, key, value)
    return config


def _report(model: PreTrainedModel, info: dict[str, Any]) -> TransferReport:
    names = _tensor_names(model)
    mismatched = {k[0] if isinstance(k, tuple) else k for k in info["mismatched_keys"]}
    missing = (set(info["missing_keys"]) | mismatched) & set(names)
    unused = sorted(set(info["unexpected_keys"]))
    return TransferReport(len(names), new=[n for n in names if n in missing], unused=unused)


def _check_encoder_loaded(model: PreTrainedModel, report: TransferReport, source: str | Path) -> None:
    table = depths(model)
    body = [n for n in _tensor_names(model) if table.get(n, 0) <= num_layers(model)]
    absent = [n for n in body if n in set(report.new)]
    if absent:
        raise ModelError(
            f'"{source}" lacks {len(absent)} of {len(body)} tensors of a {model.config.model_type} encoder '
            f"(first: {absent[0]}); it would have random weights. Give a checkpoint of that architecture."
        )


def _tensor_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The encoder's blocks: the longest list of modules in the base model that is in no other such list.

    Of convolutional encoders these are the stages; convolutions that read a waveform are none.
    """
    base = getattr(model, "base_model", model)
    prefix = next((n for n, m in model.named_modules() if m is base), "")
    lists = {n: m for n, m in base.named_modules() if isinstance(m, nn.ModuleList) and not _reads_waves(n)}
    outer = [(n, m) for n, m in lists.items() if not any(n.startswith(f"{other}.") for other in lists)]
    if not outer:
        return prefix, nn.ModuleList()
    name, found = max(outer, key=lambda pair: len(pair[1]))
    return ".".join(filter(None, (prefix, name))), found


def _reads_waves(name: str) -> bool:
    """Whether a module belongs to the convolutions that make frames of a waveform."""
    return "feature_extractor" in name.split(".")


def num_layers(model: nn.Module) -> int:
    """Number of encoder blocks."""
    return len(blocks(model)[1])


def width(config: PretrainedConfig) -> int:
    """Width of the last hidden states: ``hidden_size``, or the last of ``hidden_sizes``."""
    found = getattr(config, "hidden_size", None)
    return int(config.hidden_sizes[-1] if found is None else found)


def tuning_lr(config: PretrainedConfig, multiple: float, *, full: float = 1.0) -> float:
    """Default learning rate: 0.04 / width times what task and strategy ask for; more for all weights of a ResNet.

    Args:
        config: Of the encoder.
        multiple: Of task and strategies.
        full: A further one where they ask for none: all weights are trained at one rate.
    """
    if multiple == 1:
        return full * _WIDTH_TIMES_LR.get(config.model_type, _USUAL) / width(config)
    return multiple * _USUAL / width(config)


def depths(model: nn.Module) -> dict[str, int]:
    """Depth of every parameter: 0 embeddings, 1..n the blocks from input to output, n + 1 what follows (head, pooler).

    Parameters of the base model registered before the blocks count as embeddings; after them, and outside the base
    model, as head.
    """
    prefix, found = blocks(model)
    top = len(found) + 1
    names = _tensor_names(model)
    in_blocks = [i for i, n in enumerate(names) if n.startswith(f"{prefix}.")]
    first = in_blocks[0] if in_blocks else 0
    base = prefix.partition(".")[0]

    def depth(position: int, name: str) -> int:
        if name.startswith(f"{prefix}."):
            return int(name[len(prefix) + 1 :].partition(".")[0]) + 1
        inside = hasattr(model, "base_model") and model.base_model is not model
        return 0 if position < first and (not inside or name.startswith(f"{base}.")) else top

    return {name: depth(i, name) for i, name in enumerate(names)}


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' own loading report and bars; the transfer report replaces them."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)

"""Images: files, tables or arrays of them, as squares of 8-bit pixels whose scale is learnt from the data."""

from __future__ import annotations

__all__ = ["Image"]

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoImageProcessor, PretrainedConfig, ViTImageProcessorPil

from pretune import augment, data, image_config, image_reading, pixel_corpus
from pretune.corruptions.base import Corruption
from pretune.errors import ConfigError, ModelError, check_known
from pretune.image_decoding import Squares
from pretune.image_sampling import Sample, sample
from pretune.media_records import input_key, inputs_of, path_of
from pretune.modalities.base import Batch, Example, Modality
from pretune.pixel_corpus import PixelCorpus
from pretune.progress import say
from pretune.thumbnails import thumbnail

if TYPE_CHECKING:
    from pretune.classical import Classical
    from pretune.tasks.base import Task

_IN_MEMORY = 2**28
"""Bytes of processed images above which they go to a file that the system pages."""

_TOGETHER = 2**18
"""Pixels that a model predicts in one run, where that are more than 64 pictures."""

_POSITION_FREE = ("convnext", "convnextv2", "resnet")
"""Architectures without position embeddings: any image size fits a checkpoint."""

_STRENGTHS = ("none", "light", "strong")


class Image(Modality):
    """Images of any usual format, 8 or 16 bit, grey, colour, palette or transparent, turned as EXIF says.

    What is None is derived from a sample of the data, printed, and stored with the model (a checkpoint decides it).

    Args:
        image_size: Side of the square that the model sees; derived: the median shorter side, at most 224.
        channels: 1 (grey) or 3 (colour); derived: 1 when every image of the sample is grey.
        fit: ``stretch`` resizes both sides, so that nothing is lost at the border; ``crop`` keeps proportions: it
            resizes the shorter side and cuts out the centre.
        augmentation: For training of tasks: ``none``; ``light`` moves images by up to an eighth; ``strong`` cuts out
            random boxes and changes brightness, contrast and saturation.
        flip: Mirror half of the images while training a task. Wrong where left and right differ (digits, text,
            organs); not given: colour images are mirrored, grey ones are not.

    Attributes:
        mean: Of each channel, in 0..1.
        std: Of each channel, in 0..1.
    """

    kind = "pixels"
    main_input = "pixel_values"
    counted = "images"
    family = "resnet"  # from scratch, few images teach it more than a ViT: see docs/results.md
    objective = "contrastive"
    loader = "AutoImageProcessor"
    inputs: ClassVar[Mapping[str, Sequence[str]]] = data.IMAGE_COLUMNS
    labelled: ClassVar[Sequence[str]] = ("augmentation", "flip")
    augmenting: ClassVar[Sequence[str]] = labelled
    sizes: ClassVar[Collection[str]] = image_config.SIZES
    families: ClassVar[Collection[str]] = tuple(image_config.FAMILIES)

    def __init__(
        self,
        *,
        image_size: int | None = None,
        channels: int | None = None,
        fit: Literal["stretch", "crop"] = "stretch",
        augmentation: Literal["none", "light", "strong"] = "light",
        flip: bool | None = None,
    ) -> None:
        if image_size is not None and image_size < 8:
            raise ConfigError(f"image_size must be at least 8 pixels, found {image_size}.")
        if channels not in (None, 1, 3):
            raise ConfigError(f"channels is 1 (grey) or 3 (colour), found {channels}.")
        if fit not in ("stretch", "crop"):
            raise ConfigError(f'fit is "stretch" or "crop", found "{fit}".')
        check_known("augmentation", augmentation, _STRENGTHS)
        self.image_size, self.channels, self.fit = image_size, channels, fit
        self.augmentation, self.flip = augmentation, flip
        self.mean: list[float] = []
        self.std: list[float] = []
        self.columns = {}
        self._edge: int | None = None
        self._resample = int(Squares.resample)
        self._mirrors = False

    # -- what is learnt or loaded ------------------------------------------------------------------------------------

    def baseline(self, task: Task) -> Classical | None:
        """A linear model of pixels or of histograms of oriented gradients."""
        from pretune import image_baselines

        return image_baselines.for_task(task)

    def learn(self, source: Any) -> None:
        """Derives what is not given, and mean and standard deviation, from up to 1,000 images of `source`.

        Raises:
            DataError: The source cannot be read or has no images; or one of them is damaged (named).
        """
        found: Sample = sample(self._pictures(source), image_size=self.image_size, channels=self.channels)
        self.image_size, self.channels = found.image_size, found.channels
        self._adopt(edge=found.image_size if self.fit == "crop" else None)
        self.mean, self.std = found.moments(self.squares)
        self._say(f"from {len(found)} of {found.num_seen:,}")

    def load(self, folder: str) -> Self:
        """Takes the image processor of a model directory or Hub name; the options then say what it is.

        Raises:
            ModelError: There is no image processor, or one that does what cannot be done here.
            ConfigError: An option that the checkpoint contradicts.
        """
        try:
            found: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(
                f'"{folder}" has no image processor that can be used (preprocessor_config.json); give a directory or '
                "Hub name of an image model, or train from scratch."
            ) from error
        config = _config(folder)
        size, edge = _square(found, folder)
        channels = int(config.get("num_channels") or len(found.image_mean))
        self._take(size, edge, num_channels=channels, folder=folder, config=config)
        ones = [1.0] * self.num_channels
        self.mean = list(found.image_mean) if found.do_normalize else [0.0 for _ in ones]
        self.std = list(found.image_std) if found.do_normalize else ones
        self._adopt(edge=self._edge, resample=int(found.resample or Squares.resample))
        return self

    def _take(self, size: int, edge: int | None, *, num_channels: int, folder: str, config: Mapping[str, Any]) -> None:
        """Adopts size and channels of a checkpoint, unless an option contradicts them."""
        free = config.get("model_type") in _POSITION_FREE
        if self.image_size not in (None, size) and not free:
            raise ConfigError(
                f'image_size is {self.image_size}, but "{folder}" reads {size} pixels; leave it out, or train anew.'
            )
        if self.channels not in (None, num_channels):
            raise ConfigError(f'channels is {self.channels}, but "{folder}" reads {num_channels}; leave it out.')
        if self.fit == "crop" and edge is None:
            raise ConfigError(f'fit is "crop", but "{folder}" stretches its images; leave it out.')
        kept = self.image_size if free and self.image_size else size
        least = _least_side(config)
        if kept < least:
            raise ConfigError(
                f'image_size is {kept}, and "{folder}" needs at least {least}: it halves its input often.'
            )
        self._edge = edge if edge is None or kept == size else round(edge * kept / size)
        self.image_size, self.channels, self.fit = kept, num_channels, "stretch" if edge is None else "crop"

    def _adopt(self, *, edge: int | None, resample: int = int(Squares.resample)) -> None:
        self._edge, self._resample = edge, resample
        self._mirrors = self.num_channels == 3 if self.flip is None else self.flip

    def _say(self, origin: str) -> None:
        numbers = [", ".join(f"{v:.3f}" for v in values) for values in (self.mean, self.std)]
        mirrored = "mirrored in training" if self._mirrors else "never mirrored"
        say(
            f"images: {self.image_size} x {self.image_size} x {self.channels} ({self.fit}), mean {numbers[0]}, std "
            f"{numbers[1]} {origin}; augmentation for tasks: {self.augmentation}, {mirrored} (--modality.flip)"
        )

    def save(self, folder: Path) -> None:
        """Writes preprocessor_config.json, with which `AutoImageProcessor` gives the same pixels."""
        side = self.squares.size
        square = {"height": side, "width": side}
        processor = ViTImageProcessorPil(
            size=square if self._edge is None else {"shortest_edge": self._edge},
            do_center_crop=self._edge is not None,
            crop_size=square,
            resample=self._resample,
            do_convert_rgb=self.num_channels == 3,
            image_mean=self.mean,
            image_std=self.std,
        )
        processor.save_pretrained(str(folder))

    @property
    def mirrors(self) -> bool:
        """Whether images may be mirrored in training, after `learn` or `load`."""
        return self._mirrors

    @property
    def num_channels(self) -> int:
        """1 or 3, after `learn` or `load`."""
        assert self.channels is not None, "learn or load the modality first"
        return self.channels

    @property
    def together(self) -> int:
        """More of small pictures, whose layers are small products that cost as much to call as to compute."""
        return min(256, max(super().together, _TOGETHER // self.squares.size**2))

    @property
    def squares(self) -> Squares:
        """How images are resized, after `learn` or `load`."""
        assert self.image_size is not None, "learn or load the modality first"
        return Squares(self.image_size, self.num_channels, self._edge, self._resample)

    # -- data --------------------------------------------------------------------------------------------------------

    def corpus(self, source: Any, *, cache: Path, split: str, units: str = "stream") -> PixelCorpus:
        """Decodes unlabelled images once; see `pretune.pixel_corpus.open_or_build`.

        Args:
            source: A folder, table, array or Hub name.
            cache: Folder for decoded corpora.
            split: ``train``, ``valid`` or ``all``.
            units: Not used.
        """
        key = input_key(source, self.columns, self._pictures(source))
        return pixel_corpus.open_or_build(
            lambda: self._pictures(source), squares=self.squares, cache=cache, key=key, split=split
        )

    def _pictures(self, source: Any) -> Iterator[image_reading.Picture]:
        return inputs_of(source, "image", self.inputs["image"], self.columns)

    def read(self, record: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The picture of a record at its own size, shape (height, width, channels).

        Raises:
            DataError: It is missing or damaged; names its file.
        """
        return image_reading.pixels(image_reading.picture(record["image"]), self.num_channels)

    def origin(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """``image``: the path, where there is one."""
        return path_of(record, "image")

    def shown(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """``image``: the path; of what lies in memory or in an array a ``thumbnail``, a PNG in base64."""
        return self.origin(record) or {"thumbnail": thumbnail(self.read(record))}

    def process(self, record: Mapping[str, Any]) -> Example:
        """Decodes and resizes ``image`` to ``pixel_values``: bytes, shape (image_size, image_size, channels)."""
        return {"pixel_values": self.squares.one(record["image"])}

    def process_many(self, records: Sequence[Mapping[str, Any]]) -> list[Example]:
        """`process` for many records, on all cores; large results lie in a file that is removed with them."""
        squares = self.squares
        shape = (len(records), squares.size, squares.size, squares.channels)
        store = _store(shape)
        for row, image in zip(store, squares.many(r["image"] for r in records), strict=True):
            row[...] = image
        return [{"pixel_values": row} for row in store]

    def augment(self, examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
        """Moved, cut, mirrored or recoloured copies, as the options say; all of one size."""
        if self.augmentation == "none" and not self._mirrors:
            return list(examples)
        images = _nchw([e["pixel_values"] for e in examples])
        if self.augmentation == "light":
            images = augment.shift(images, rng, max(1, images.shape[-1] // 8))
        elif self.augmentation == "strong":
            images = augment.random_resized_crop(images, rng, scale=(0.35, 1.0))
            images = augment.color_jitter(images, rng, brightness=0.3, contrast=0.3, saturation=0.3, rate=0.8)
        if self._mirrors:
            images = augment.horizontal_flip(images, rng)
        changed = images.permute(0, 2, 3, 1).numpy()
        return [e | {"pixel_values": row} for e, row in zip(examples, changed, strict=True)]

    def corruptions(self) -> Sequence[Corruption]:
        """Noise, blur, light, compression; no pixel moves."""
        from pretune.corruptions.image import CORRUPTIONS

        return CORRUPTIONS

    def pad(self, examples: Sequence[Example]) -> Batch:
        """Stacks and normalises: ``pixel_values``, float32, shape (batch, channels, height, width)."""
        return {"pixel_values": self.normalise(_nchw([e["pixel_values"] for e in examples]))}

    def normalise(self, images: Tensor) -> Tensor:
        """Bytes (B, C, H, W) to floats with mean 0 and deviation 1 a channel, over the data."""
        mean, std = self._moments(images)
        return (images.float() / 255 - mean) / std

    def denormalise(self, images: Tensor) -> Tensor:
        """What `normalise` gave, back to 0..1."""
        mean, std = self._moments(images)
        return (images * std + mean).clamp(0, 1)

    def _moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return mean, std

    def config(self, size: str, family: str) -> PretrainedConfig:
        """The config of a size preset (tiny, mini, small, base) of a family (vit, convnext, resnet)."""
        return image_config.image_config(size, family, image_size=self.squares.size, num_channels=self.num_channels)


def _nchw(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _store(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if np.prod(shape) < _IN_MEMORY:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile(prefix="pretune-images-") as file:  # the map keeps it until it is collected
        os.truncate(file.fileno(), int(np.prod(shape)))
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def _config(folder: str) -> Mapping[str, Any]:
    """The config of a model; empty for a processor on its own, such as that of a run that has not ended."""
    try:
        return dict(PretrainedConfig.get_config_dict(folder)[0])
    except (OSError, ValueError):
        return {}


def _least_side(config: Mapping[str, Any]) -> int:
    """Pixels below which a ResNet would halve a map of one pixel (bf16 gradients of that are garbage in oneDNN 3)."""
    return 2 ** len(config["depths"]) + 1 if config.get("model_type") == "resnet" and "depths" in config else 1


def _square(processor: Any, folder: str) -> tuple[int, int | None]:
    """Side of the square that a processor makes, and the shorter side before it cuts out the centre, if it does."""
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    scale = getattr(processor, "crop_pct", None)
    short = size.get("shortest_edge")
    if short and scale and "ConvNext" in type(processor).__name__:
        return (short, None) if short >= 384 else (short, int(short / scale))
    if short and processor.do_center_crop and crop.get("height") == crop.get("width"):
        return int(crop["height"]), short
    if size.get("height") and size.get("height") == size.get("width") and not processor.do_center_crop:
        return int(size["height"]), None
    raise ModelError(
        f'The image processor of "{folder}" does not make squares ({processor.size}); it cannot be used here.'
    )

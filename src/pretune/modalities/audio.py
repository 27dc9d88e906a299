"""Sound, above all speech: files or tables of recordings, as a waveform or as a log-mel spectrogram."""

from __future__ import annotations

__all__ = ["RATE", "Audio"]

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    PretrainedConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

from pretune import audio_config, audio_reading, data, mel, wave_augment, wave_corpus
from pretune.columns import SPEAKER_COLUMNS
from pretune.corruptions.base import Corruption
from pretune.errors import ConfigError, ModelError, check_known
from pretune.media_records import input_key, inputs_of, path_of
from pretune.modalities.base import Batch, Example, Modality
from pretune.read_ahead import ahead
from pretune.sound_frames import inside
from pretune.wave_corpus import WaveCorpus

if TYPE_CHECKING:
    from pretune.classical import Classical
    from pretune.tasks.base import Task

RATE = 16_000

_LEAST = mel.WINDOW + 3 * mel.HOP
"""Samples of the shortest input that models are given; shorter recordings get silence at their end."""

_STRENGTHS, _SCALES = ("none", "light", "strong"), ("bins", "recording")

_PER_BIN = "do_normalize_per_mel_bins"
"""SeamlessM4TFeatureExtractor takes it when it is called; its saved config can only say what to give."""


class Audio(Modality):
    """Recordings of any rate and number of channels, made mono and resampled to what the model reads (16 kHz).

    The family decides the front end: ``wav2vec2-bert`` reads log-mel spectrograms, which is cheap; ``wav2vec2`` and
    ``hubert`` read the waveform through convolutions, which cost several times as much.

    Args:
        max_seconds: Longest recording that a task takes whole; what lies beyond is cut off (and said).
        piece_seconds: Longest example of pre-training; longer recordings are cut into equal parts.
        frame_ms: Duration of a frame of a spectral family, 20 or 40; 20 costs twice as much.
        normalise: Spectra of a spectral family: ``bins`` gives every mel bin of a recording mean 0 and deviation 1, as
            w2v-BERT 2.0 wants it, so that microphone, room and timbre are gone; ``recording`` has all bins on one
            scale, so that the mean spectrum stays: better for emotion, worse for words of unknown microphones.
        augmentation: For training of tasks: ``none``; ``light`` hides up to two spans of time and two bands of
            frequencies (SpecAugment, Park et al. 2019); ``strong`` hides more, and adds noise.
        shared_speakers: Let a validation split have speakers of the training data, where a column names speakers.
    """

    kind = "waveform"
    main_input = "input_features"
    counted = "seconds of sound"
    family = "wav2vec2-bert"
    objective = "masked_audio"
    loader = "AutoFeatureExtractor"
    inputs: ClassVar[Mapping[str, Sequence[str]]] = data.AUDIO_COLUMNS
    limit: ClassVar[str] = "max_seconds"
    tuning: ClassVar[Mapping[str, Any]] = {"apply_spec_augment": False}  # its noise is not ours to repeat
    learnt: ClassVar[Sequence[str]] = ("frame_ms", "normalise")
    unlabelled: ClassVar[Sequence[str]] = ("piece_seconds",)
    labelled: ClassVar[Sequence[str]] = ("augmentation", "max_seconds", "shared_speakers")
    augmenting: ClassVar[Sequence[str]] = ("augmentation",)
    splitting: ClassVar[Sequence[str]] = ("shared_speakers",)
    sizes: ClassVar[Collection[str]] = audio_config.SIZES
    families: ClassVar[Collection[str]] = tuple(audio_config.FAMILIES)

    def __init__(
        self,
        *,
        max_seconds: float = 30.0,
        piece_seconds: float = 6.0,
        frame_ms: int = 40,
        normalise: Literal["bins", "recording"] = "bins",
        augmentation: Literal["none", "light", "strong"] = "light",
        shared_speakers: bool = False,
    ) -> None:
        for name, value in (("max_seconds", max_seconds), ("piece_seconds", piece_seconds)):
            if not 0.1 <= value <= 3600:
                raise ConfigError(f"{name} must be from 0.1 to 3600 seconds, found {value:g}.")
        if frame_ms not in (20, 40):
            raise ConfigError(f"frame_ms is 20 or 40, found {frame_ms}.")
        check_known("normalise", normalise, _SCALES)
        check_known("augmentation", augmentation, _STRENGTHS)
        self.max_seconds, self.piece_seconds, self.frame_ms = max_seconds, piece_seconds, frame_ms
        self.normalise: str = normalise
        self.augmentation, self.shared_speakers = augmentation, shared_speakers
        self.groups = () if shared_speakers else SPEAKER_COLUMNS
        self.rate = RATE
        self._reads(spectral=True)
        self.columns = {}
        self._normalises = True
        self._stride = frame_ms // 10
        self._hop = math.prod(Wav2Vec2Config().conv_stride)

    # -- what is chosen or loaded ------------------------------------------------------------------------------------

    def _reads(self, *, spectral: bool) -> None:
        self.spectral = spectral
        self.main_input = "input_features" if spectral else "input_values"

    def config(self, size: str, family: str) -> PretrainedConfig:
        """The config of a size preset (tiny, mini, small, base) of a family; the family decides the front end.

        Raises:
            ConfigError: There is no such preset, or an option of spectra was given for a family that reads waveforms.
        """
        found = audio_config.audio_config(size, family, stride=self._stride)
        self._reads(spectral=family in audio_config.SPECTRAL)
        self._hop = _hop_of(found, self._hop)
        if not self.spectral:
            self._check_of_spectra(family)
        return found

    def _check_of_spectra(self, family: str) -> None:
        for name, reason in (("frame_ms", "whose frames last 20 ms"), ("normalise", "which reads waveforms")):
            if getattr(self, name) != self.default(name):
                raise ConfigError(f"modality.{name} has no effect on {family}, {reason}; leave it out.")

    @property
    def frame_samples(self) -> int:
        """Samples between the beginnings of two frames of the encoder: of mel windows, or of its convolutions."""
        return self._stride * mel.HOP if self.spectral else self._hop

    @property
    def frame_seconds(self) -> float:
        """Duration of a frame of the encoder."""
        return self.frame_samples / self.rate

    def baseline(self, task: Task) -> Classical | None:
        """MFCC and a support vector machine."""
        from pretune import mfcc

        return mfcc.for_task(task, rate=self.rate)

    def learn(self, source: Any) -> None:
        """Nothing: sound needs no vocabulary and no statistics of the whole data."""

    def load(self, folder: str) -> Self:
        """Takes the feature extractor of a model directory or Hub name.

        Raises:
            ModelError: There is none, or one that does what cannot be done here.
        """
        try:
            found: Any = AutoFeatureExtractor.from_pretrained(folder)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(
                f'"{folder}" has no feature extractor that can be used (preprocessor_config.json); give a directory or '
                "Hub name of a speech model, or train from scratch."
            ) from error
        if not isinstance(found, SeamlessM4TFeatureExtractor | Wav2Vec2FeatureExtractor):
            raise ModelError(
                f'"{folder}" reads sound with {type(found).__name__}; there are: Wav2Vec2FeatureExtractor (wav2vec '
                "2.0, HuBERT, WavLM) and SeamlessM4TFeatureExtractor (w2v-BERT 2.0)."
            )
        self._adopt(found, folder)
        return self

    def _adopt(self, found: Any, folder: str) -> None:
        self.rate = int(found.sampling_rate)
        self._reads(spectral=isinstance(found, SeamlessM4TFeatureExtractor))
        if self.spectral:
            if found.num_mel_bins != mel.BINS or found.stride < 2:
                raise ModelError(
                    f'"{folder}" reads {found.num_mel_bins} mel bins with stride {found.stride}; expected {mel.BINS} '
                    "bins and a stride of at least 2."
                )
            self._stride = int(found.stride)
            self.frame_ms = 10 * self._stride
            self.normalise = "bins" if getattr(found, _PER_BIN, True) else "recording"
        else:
            self._normalises = bool(found.do_normalize)
            with contextlib.suppress(OSError, ValueError, KeyError):  # an extractor alone: wav2vec 2.0's own strides
                self._hop = _hop_of(AutoConfig.from_pretrained(folder), self._hop)

    def save(self, folder: Path) -> None:
        """Writes preprocessor_config.json, with which `AutoFeatureExtractor` gives the same inputs."""
        if self.spectral:
            extractor: Any = SeamlessM4TFeatureExtractor(
                feature_size=mel.BINS, num_mel_bins=mel.BINS, sampling_rate=self.rate, stride=self._stride,
                **({} if self.normalise == "bins" else {_PER_BIN: False}),
            )  # fmt: skip
        else:
            extractor = Wav2Vec2FeatureExtractor(
                sampling_rate=self.rate, do_normalize=self._normalises, return_attention_mask=True
            )
        extractor.save_pretrained(str(folder))

    # -- data ----

    def corpus(self, source: Any, *, cache: Path, split: str, units: str = "stream") -> WaveCorpus:
        """Decodes unlabelled recordings once; see `pretune.wave_corpus.open_or_build`.

        Args:
            source: A folder, table or Hub name.
            cache: Folder for decoded corpora.
            split: ``train``, ``valid`` or ``all``.
            units: Not used.
        """
        key = input_key(source, self.columns, self._recordings(source))
        return wave_corpus.open_or_build(
            lambda: ahead(self.samples, self._recordings(source)),
            rate=self.rate,
            cache=cache,
            key=key,
            split=split,
        )

    def _recordings(self, source: Any) -> Iterator[audio_reading.Recording]:
        return inputs_of(source, "audio", self.inputs["audio"], self.columns)

    def samples(self, value: audio_reading.Recording) -> NDArray[np.int16]:
        """A recording as mono samples at `rate`.

        Raises:
            DataError: It is missing, damaged or empty; names its file.
        """
        return audio_reading.samples(value, self.rate)

    def origin(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """``audio``: the path, where there is one."""
        return path_of(record, "audio")

    def process(self, record: Mapping[str, Any]) -> Example:
        """Decodes and resamples ``audio`` to ``input_values``: 16-bit samples, shape (samples,)."""
        found = self.samples(record["audio"])
        most = round(self.max_seconds * self.rate)
        self.num_truncated += len(found) > most
        return {"input_values": found[:most]}

    def process_many(self, records: Sequence[Mapping[str, Any]]) -> list[Example]:
        """`process` for many records, on all cores."""
        return list(ahead(self.process, records))

    def augment(self, examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
        """Copies with the spans and bands that `pad` will hide, and with noise, as the option says."""
        if self.augmentation == "none":
            return list(examples)
        return [wave_augment.changed(e, rng, strong=self.augmentation == "strong") for e in examples]

    def corruptions(self) -> Sequence[Corruption]:
        """Noise, loudness, a narrow line; nothing moves in time."""
        from pretune.corruptions.audio import CORRUPTIONS

        return CORRUPTIONS

    def length(self, example: Example) -> int:
        """Frames of 20 ms."""
        return 1 + len(example["input_values"]) * 50 // self.rate

    def piece(self, example: Example, length: int, rng: np.random.Generator) -> Example:
        """A stretch of `length` frames of 20 ms."""
        wave = example["input_values"]
        size = min(len(wave), max(_LEAST, (length - 1) * self.rate // 50))
        start = int(rng.integers(len(wave) - size + 1))
        return {"input_values": wave[start : start + size]}

    def pad(self, examples: Sequence[Example]) -> Batch:
        """Normalised inputs of one length.

        Returns:
            ``input_features`` (batch, frames, 80 x stride) and ``attention_mask`` (batch, frames), or ``input_values``
            and ``attention_mask`` (batch, samples); ``num_samples`` and ``seconds`` of each row. Rows that carry the
            outputs of a whole frozen encoder get zeros: nothing reads their sound.
        """
        waves, lengths = self.stacked(examples)
        stored = "features" in examples[0] and not any(k.startswith("block") for k in examples[0]["features"][0])
        batch = self.spectrum(waves, lengths, stored) if self.spectral else self._waveform(waves, lengths, stored)
        wave_augment.hide(batch, examples, main_input=self.main_input, rate=self.rate)
        return batch | {"num_samples": lengths, "seconds": lengths / self.rate}

    def stacked(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Samples from -1 to 1, (batch, samples), with silence after the end of each, and how many there are."""
        lengths = [max(_LEAST, len(e["input_values"])) for e in examples]
        waves = np.zeros((len(examples), max(lengths)), dtype=np.float32)
        for row, example in zip(waves, examples, strict=True):
            found = example["input_values"]
            row[: len(found)] = found
        return torch.from_numpy(waves) / 2**15, torch.tensor(lengths)

    def spectrum(self, waves: Tensor, lengths: Tensor, empty: bool = False) -> Batch:
        """``input_features`` and ``attention_mask`` of samples (batch, samples); `empty` leaves the features 0."""
        windows = mel.num_frames(lengths)
        frames = windows.div(self._stride, rounding_mode="floor")
        most = int(frames.max())
        own = inside(frames, most)
        if empty:
            features = torch.zeros(len(waves), most, mel.BINS * self._stride)
        else:
            mels = mel.log_mel(waves, self.rate)
            mels = mel.normalised(mels, windows, together=self.normalise == "recording")
            features = mel.stacked(mels, self._stride)[:, :most] * own[..., None]
        return {"input_features": features, "attention_mask": own.long()}

    def _waveform(self, waves: Tensor, lengths: Tensor, empty: bool) -> Batch:
        own = inside(lengths, waves.shape[1])
        if self._normalises and not empty:
            mean = (waves * own).sum(1, keepdim=True) / lengths[:, None]
            centred = (waves - mean) * own
            waves = centred / (centred.square().sum(1, keepdim=True) / lengths[:, None] + 1e-7).sqrt()
        return {"input_values": waves, "attention_mask": own.long()}


def _hop_of(config: PretrainedConfig, usual: int) -> int:
    """Samples between the frames of an encoder's convolutions."""
    return math.prod(getattr(config, "conv_stride", None) or [usual])

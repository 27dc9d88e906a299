"""Autoencoder: rebuild the input from one vector; with noise on the input, a denoising one."""

from __future__ import annotations

__all__ = ["Autoencoder"]

from typing import ClassVar

from pretune.by_kind import ByKind
from pretune.pixel_autoencoder import PixelAutoencoder
from pretune.text_autoencoder import TextAutoencoder
from pretune.waveform_autoencoder import WaveformAutoencoder


class Autoencoder(ByKind):
    """Rebuilds a text, an image or a recording from one pooled vector of a (corrupted) copy.

    Text: the encoder reads a copy with words deleted, shuffled and masked; a one-layer decoder sees its vector and the
    original with most words hidden, and must name the hidden ones (RetroMAE: Xiao et al. 2022; noise: Lample et al.
    2018). Images: encoder, a code of a few numbers, a convolutional decoder, squared error; `noise` above 0 makes it
    denoising (Vincent et al. 2008). Sound: the same with the mean state of a recording and its log-mel spectrogram.

    Args:
        delete_rate: Text: share of the words that the encoder's copy lacks.
        shuffle_distance: Text: how many places a word may move in the encoder's copy; 0 keeps the order.
        mask_rate: Text: share of the remaining tokens that are masked (80/10/10) in the encoder's copy.
        decoder_mask_rate: Text: share of the tokens hidden from the decoder; at 1 it sees nothing but the vector.
        mlm_weight: Text: weight of masked language modelling on the corrupted copy, which trains single-token
            states; 0 leaves the vector alone.
        dropout: Text: dropout rate while pre-training; the exported config keeps its own rate.
        code_size: Images, sound: numbers in the code.
        noise: Images, sound: standard deviation of Gaussian noise on the encoder's input, in units of the input's own;
            0 is a plain autoencoder.
        decoder_width: Images: channels of the decoder at full resolution; sound: an eighth of its channels.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"tokens", "pixels", "waveform"})
    units: ClassVar[str] = "sentences"

    def __init__(
        self,
        *,
        delete_rate: float = 0.1,
        shuffle_distance: float = 3.0,
        mask_rate: float = 0.3,
        decoder_mask_rate: float = 0.7,
        mlm_weight: float = 1.0,
        dropout: float = 0.0,
        code_size: int = 128,
        noise: float = 0.0,
        decoder_width: int = 32,
    ) -> None:
        parts = {"tokens": TextAutoencoder, "pixels": PixelAutoencoder, "waveform": WaveformAutoencoder}
        super().__init__(parts, locals())

"""Contrastive learning: two views of a text, image or recording must find each other in the batch."""

from __future__ import annotations

__all__ = ["Contrastive"]

from typing import ClassVar

from pretune.by_kind import ByKind
from pretune.pixel_contrastive import PixelContrastive
from pretune.text_contrastive import TextContrastive
from pretune.waveform_contrastive import WaveformContrastive


class Contrastive(ByKind):
    """InfoNCE between two views; the others in the batch are the negatives, so use many examples a batch.

    Text: unsupervised SimCSE (Gao et al. 2021), two passes that differ in dropout alone; it shapes the pooled vector
    and teaches little about words: use it after `mlm` or on a checkpoint (``--from``). Images: SimCLR (Chen et al.
    2020), two random crops with changed colours, and a projection head that is thrown away. Sound: COLA (Saeed et al.
    2021), two random crops that lose spans of time and bands of frequencies, half of them with noise.

    Args:
        temperature: Divides the cosine similarities; smaller is sharper. Not given: 0.05 for text, 0.2
            for images and sound.
        mlm_weight: Text: weight of masked language modelling in a third pass, which keeps token states from
            decaying; 0 saves that pass.
        mask_rate: Text: share of the tokens masked (80/10/10) in the third pass.
        dropout: Text: dropout rate; it is what makes the two views differ, so it cannot be 0.
        projection_size: Images, sound: width of the vectors that are compared.
        min_crop: Images: least area of a crop, as a share of the image; sound: least duration, as a share of the
            recording. Not given: 0.2 for images, 0.4 for sound.
        flip_rate: Images: share of the views that are mirrored; 0 where left and right mean something, as in digits.
        jitter: Images: strength of the changes of brightness, contrast and colour; 0 is off.
        grayscale_rate: Images: share of the views that lose their colour.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"tokens", "pixels", "waveform"})
    units: ClassVar[str] = "sentences"

    def __init__(
        self,
        *,
        temperature: float | None = None,
        mlm_weight: float = 0.1,
        mask_rate: float = 0.15,
        dropout: float = 0.1,
        projection_size: int = 128,
        min_crop: float | None = None,
        flip_rate: float = 0.5,
        jitter: float = 0.5,
        grayscale_rate: float = 0.2,
    ) -> None:
        parts = {"tokens": TextContrastive, "pixels": PixelContrastive, "waveform": WaveformContrastive}
        super().__init__(parts, locals())

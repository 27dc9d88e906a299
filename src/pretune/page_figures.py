"""Figures for pages: inline SVG whose text is text and whose colours are those of the page, also in dark mode."""

from __future__ import annotations

__all__ = ["BLUE", "DASHED", "INK", "LINE", "RED", "SOFT", "bare", "bare_axes", "data_address", "inline_svg"]

import base64
import hashlib
import html
import io
import re
from typing import Any

# colours that the style sheet of pages (page_style.css.j2) replaces
_STYLE = {
    "#010203": "var(--ink)",
    "#040506": "var(--soft)",
    "#070809": "var(--line)",
    "#0a0b0c": "var(--for)",
    "#0d0e0f": "var(--against)",
}
INK, SOFT, LINE, BLUE, RED = _STYLE

DASHED = (0, (2, 2))
"""Line style of references."""

_IDS = re.compile(r'(\bid="|href="#|url\(#)')


def bare(height: float, *, width: float = 3.7, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure of phone width, and its axes: the text keeps its size there and grows on a wide screen.

    Args:
        height: In inches.
        width: In inches; 3.7 is a phone.
        rows: Of axes.
        columns: Of axes.
        options: Of ``Figure.subplots``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, **options)
    figure.patch.set_visible(False)
    for each in [axes] if rows == columns == 1 else axes.flat:
        bare_axes(each)
    return figure, axes


def bare_axes(axes: Any) -> None:
    """Left and bottom lines alone, in the colours of the page."""
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    axes.tick_params(colors=SOFT, labelsize=9)
    axes.yaxis.label.set_color(SOFT)
    axes.xaxis.label.set_color(SOFT)


def data_address(content: bytes, mime: str) -> str:
    """The ``data:`` address of a picture or recording, which a page can hold."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def inline_svg(figure: Any, description: str) -> str:
    """The figure as an ``<svg>`` element; its ids differ from those of other figures on the page.

    Args:
        figure: Of `bare`.
        description: What it shows, for those who do not see it; escaped here.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pretune"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    own = hashlib.blake2b((description + text).encode(), digest_size=4).hexdigest()
    text = _IDS.sub(rf"\g<1>f{own}-", text[text.index("<svg") :])
    text = text.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
    for colour, variable in _STYLE.items():
        text = text.replace(colour, variable)
    return text

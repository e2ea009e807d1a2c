"""FocusCLIP in JAX: CLIP with Subject-Focused Attention (arXiv 2403.06904)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from focusclip_jax.api import Model

__version__ = "0.1.0"


def load(source: str | os.PathLike, step: int | None = None) -> Model:
    """A model for use from Python: `encode_image`, `encode_text`, `classify`.

    source: the workdir of a run; or a published CLIP in the form of Hugging Face or open_clip, a folder or
    an id "owner/name@revision" of the hub, which is downloaded once. step: of a workdir's checkpoints, by
    default the newest. Raises UserError where there is no such model.
    """
    from focusclip_jax import api  # here: it brings JAX, which importing a part of this package must not

    return api.load(source, step)

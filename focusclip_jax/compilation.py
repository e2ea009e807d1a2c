"""Where compiled programs are kept, so that a second start of the same run finds its step compiled."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

import jax


def use_cache() -> None:
    """Keep compiled programs in the user's cache folder. To be called before anything is compiled.

    Not on CPU: programs compiled for one processor may not run on another, and a home folder is often shared
    by several. JAX's own variables come first: JAX_COMPILATION_CACHE_DIR chooses a folder (on CPU too), and
    JAX_ENABLE_COMPILATION_CACHE=false switches caching off.
    """
    folder = cache_folder(jax.default_backend(), os.environ)
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))


def cache_folder(platform: str, environment: Mapping[str, str]) -> pathlib.Path | None:
    """The folder to choose; None where JAX or the user has chosen, or where it would not be safe."""
    if platform == "cpu" or environment.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    base = environment.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "focusclip-jax" / "xla"

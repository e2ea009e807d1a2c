"""Which form of focus to confirm: variants of the second view and of the loss beside CLIP, one correlation.

    ./launch.sh ablate --config=configs/ablation_figures_variants.py

Hardware: 2 CPU cores, under 3 GB of memory. Time: a cell takes 1 to 2 minutes on one core; two commands with
different --cells make use of two.
For choosing by: people, styles and seeds are those of configs/ablation_figures.py, not of the confirmation.
What it says, and the choice, stand in docs/focus.md. Most variants have a background that is gone from the
start, and stays gone: what each can do at best. A tenth of its brightness ("strong") is still enough to tell
a scene by.
"""

import dataclasses

from configs.ablation_figures import CLIP, GONE, KEEP_ALPHA, SWAP, THREE_TERM
from configs.ablation_figures import get_grid as reduced
from focusclip_jax.ablation.grid import Method

FAST_ALPHA = ((r"^alpha", 30.0, 0.0), *KEEP_ALPHA[1:])


def get_grid():
    grid = reduced()
    grid.base.steps = 400
    return dataclasses.replace(
        grid,
        name="ablation_figures_variants",
        methods={
            "clip": Method(CLIP, "baseline"),
            "clip-equal-compute": Method(CLIP, "baseline", compute_of="dual"),
            "dual": Method({}, "focus"),
            "strong": Method({"model.initial_alpha": 0.1}, "focus"),
            "fast-alpha": Method({"optimizer.rules": FAST_ALPHA}, "focus"),
            "gone": Method(GONE, "focus"),
            "gone-tokens": Method(GONE | {"model.focus_view": "tokens"}, "focus"),
            "gone-replace": Method(GONE | {"model.focus_view": "replace"}, "focus"),
            "gone-blur": Method(GONE | {"model.focus_view": "blur"}, "focus"),
            "gone-separate": Method(GONE | {"model.focus_tower": "separate"}, "focus"),
            "gone-three-term": Method(GONE | THREE_TERM, "focus"),
            # The image is never compared with the text: only what is left of it when the background is gone.
            "gone-through-focus": Method(GONE | THREE_TERM | {"loss.image_text": 0.0}, "focus"),
            "swap": Method(SWAP, "focus"),
            "swap-only": Method(SWAP | {"loss.image_text": 0.0}, "focus"),
            "swap-three-term": Method(SWAP | THREE_TERM, "focus"),
            "swap-separate": Method(SWAP | {"model.focus_tower": "separate"}, "focus"),
            "swap-wide": Method(SWAP | {"data.heatmap_scale": 2.0}, "focus"),
            "swap-person": Method(SWAP | {"data.heatmap": "person"}, "focus"),
            "swap-box": Method(SWAP | {"data.heatmap": "box"}, "focus"),
            "swap-joints": Method(SWAP | {"data.heatmap": "joints"}, "focus"),
            "swap-shuffled": Method(SWAP | {"data.heatmap": "shuffled"}, "control"),
            "swap-centred": Method(SWAP | {"data.heatmap": "centred"}, "control"),
            "crop": Method({"model.focus_view": "crop"}, "control"),
        },
        fewest_seeds=1,
    )

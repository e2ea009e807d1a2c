"""Which form of focus to confirm: variants of the second view and of the loss beside CLIP, one correlation.

    ./launch.sh ablate --config=configs/ablation_figures_variants.py

Hardware: 2 CPU cores, under 3 GB of memory. Time: a cell takes 6 minutes on one core; two commands with
different --cells make use of two.
For choosing by: people, styles and seeds are those of configs/ablation_figures.py, not of the confirmation.
What it says, and the choice, stand in docs/focus.md. The towers are half as wide as focusclip_tiny's, so that
600 steps of so many methods can be paid for.

α hardly moves in so few steps: its gradient passes through a sigmoid, and the learning rate is that of all
parameters. So variants are tried with a background that is gone from the start, and stays gone: what each can
do at best. A tenth of the background's brightness ("strong") is still enough to tell a scene by.
"""

import dataclasses

from configs.ablation_figures import CLIP
from configs.ablation_figures import get_grid as reduced
from focusclip_jax.ablation.grid import Method

KEEP_ALPHA = (
    (r"^alpha", 0.0, 0.0),
    (r"(kernel|token_embedding|position_embedding)$", 1.0, 1.0),
    (r"", 1.0, 0.0),
)
GONE = {"model.initial_alpha": 0.001, "optimizer.rules": KEEP_ALPHA}
FAST_ALPHA = ((r"^alpha", 30.0, 0.0), *KEEP_ALPHA[1:])


def get_grid():
    grid = reduced()
    config = grid.base
    config.steps = 600
    config.model.embedding = 64
    config.model.image.update(width=64, heads=2, mlp=256)
    config.model.text.update(width=64, heads=2, mlp=256)
    return dataclasses.replace(
        grid,
        name="ablation_figures_variants",
        base=config,
        methods={
            "clip": Method(CLIP, "baseline"),
            "gone": Method(GONE, "focus"),
            "gone-tokens": Method(GONE | {"model.focus_view": "tokens"}, "focus"),
            "gone-three-term": Method(GONE | {"loss.focus_image": 1.0}, "focus"),
            # The image is never compared with the text: only what is left of it when the background is gone.
            "gone-through-focus": Method(GONE | {"loss.focus_image": 1.0, "loss.image_text": 0.0}, "focus"),
            "gone-shuffled": Method(GONE | {"data.heatmap": "shuffled"}, "control"),
            "crop": Method({"model.focus_view": "crop"}, "control"),
            "clip-equal-compute": Method(CLIP, "baseline", compute_of="dual"),
            "dual": Method({}, "focus"),
            "strong": Method({"model.initial_alpha": 0.1}, "focus"),
            "fast-alpha": Method({"optimizer.rules": FAST_ALPHA}, "focus"),
            "gone-separate": Method(GONE | {"model.focus_tower": "separate"}, "focus"),
            "gone-replace": Method(GONE | {"model.focus_view": "replace"}, "focus"),
            "gone-blur": Method(GONE | {"model.focus_view": "blur"}, "focus"),
            "gone-wide": Method(GONE | {"data.heatmap_scale": 2.0}, "focus"),
            "gone-person": Method(GONE | {"data.heatmap": "person"}, "focus"),
            "gone-box": Method(GONE | {"data.heatmap": "box"}, "focus"),
            "gone-joints": Method(GONE | {"data.heatmap": "joints"}, "focus"),
        },
        fewest_seeds=2,
    )

"""Which form of focus to confirm: every variant of the second view beside CLIP, one correlation.

    ./launch.sh ablate --config=configs/ablation_figures_variants.py

Hardware: 2 CPU cores, under 3 GB of memory. Time: 16 methods of 360 steps, about an hour a seed.
For choosing by: people, styles and seeds are those of configs/ablation_figures.py, not of the confirmation.
What it says, and the choice, stand in docs/focus.md.

α hardly moves in so few steps: its gradient passes through a sigmoid, and the learning rate is that of all
parameters. So most variants start with a background that is nearly gone: what each can do at best.
"""

import dataclasses

from configs.ablation_figures import CLIP
from configs.ablation_figures import get_grid as reduced
from focusclip_jax.ablation.grid import Method

STRONG = {"model.initial_alpha": 0.1}
# As the shipped rules of config.optimizer, with one for α before them.
FAST_ALPHA = (
    (r"^alpha", 30.0, 0.0),
    (r"(kernel|token_embedding|position_embedding)$", 1.0, 1.0),
    (r"", 1.0, 0.0),
)


def get_grid():
    return dataclasses.replace(
        reduced(),
        name="ablation_figures_variants",
        methods={
            "clip": Method(CLIP, "baseline"),
            "dual": Method({}, "focus"),
            "strong": Method(STRONG, "focus"),
            "strong-shuffled": Method(STRONG | {"data.heatmap": "shuffled"}, "control"),
            "clip-equal-compute": Method(CLIP, "baseline", compute_of="dual"),
            "crop": Method({"model.focus_view": "crop"}, "control"),
            "fast-alpha": Method({"optimizer.rules": FAST_ALPHA}, "focus"),
            "strong-replace": Method(STRONG | {"model.focus_view": "replace"}, "focus"),
            "strong-blur": Method(STRONG | {"model.focus_view": "blur"}, "focus"),
            "strong-tokens": Method(STRONG | {"model.focus_view": "tokens"}, "focus"),
            "strong-person": Method(STRONG | {"data.heatmap": "person"}, "focus"),
            "strong-box": Method(STRONG | {"data.heatmap": "box"}, "focus"),
            "strong-joints": Method(STRONG | {"data.heatmap": "joints"}, "focus"),
            "strong-wide": Method(STRONG | {"data.heatmap_scale": 2.0}, "focus"),
            "strong-three-term": Method(STRONG | {"loss.focus_image": 1.0}, "focus"),
            "strong-separate": Method(STRONG | {"model.focus_tower": "separate"}, "focus"),
        },
        fewest_seeds=2,
    )

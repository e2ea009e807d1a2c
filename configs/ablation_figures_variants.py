"""Which form of focus to confirm: variants of the second view and of the loss beside CLIP.

    ./launch.sh ablate --config=configs/ablation_figures_variants.py

Hardware: 2 CPU cores, under 3 GB of memory. Time: a cell takes 1 to 2 minutes on one core; two commands with
different --cells make use of two.
For choosing by: people, styles and seeds are those of configs/ablation_figures.py, not of the confirmation.
What it says, and the choice, stand in docs/focus.md. The towers are small and the steps few, so that so many
methods can be paid for; batch size and learning rate are those that served CLIP best at this length.

α hardly moves in so few steps: its gradient passes through a sigmoid, and the learning rate is that of all
parameters. So variants are tried with a background that is gone from the start, and stays gone: what each can
do at best. A tenth of the background's brightness ("strong") is still enough to tell a scene by.
"""

import dataclasses

from configs.ablation_figures import CLIP
from configs.ablation_figures import get_grid as reduced
from configs.focusclip_tiny import get_config as focusclip
from focusclip_jax.ablation.grid import Method

KEEP_ALPHA = (
    (r"^alpha", 0.0, 0.0),
    (r"(kernel|token_embedding|position_embedding)$", 1.0, 1.0),
    (r"", 1.0, 0.0),
)
GONE = {"model.initial_alpha": 0.001, "optimizer.rules": KEEP_ALPHA}
SWAP = GONE | {"model.focus_view": "swap"}
FAST_ALPHA = ((r"^alpha", 30.0, 0.0), *KEEP_ALPHA[1:])
THREE_TERM = {"loss.focus_image": 1.0}


def base():
    """What all cells share, here and in the grid that confirms."""
    config = focusclip()
    config.steps = 400
    config.batch_size = 64
    config.optimizer.learning_rate = 2e-3
    config.model.embedding = 64
    config.model.image.update(depth=3, width=64, heads=1, mlp=256)
    config.model.text.update(depth=1, width=64, heads=1, mlp=256)
    return config


def get_grid():
    grid = reduced()
    return dataclasses.replace(
        grid,
        name="ablation_figures_variants",
        base=base(),
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
        experiment=dataclasses.replace(grid.experiment, correlations=(0.5, 0.9)),
        fewest_seeds=1,
    )

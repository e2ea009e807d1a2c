"""Whether focus helps: the core grid with all controls, for confirmation by the rule of docs/focus.md.

    ./launch.sh ablate --config=configs/ablation_figures_full.py --budget-minutes=600

Hardware: any; every cell is one training of 1,400 steps (more for CLIP at equal compute), about 12 minutes on
2 CPU cores. Five seeds are 135 cells, and up to five more follow while an interval is wider than ± 2 points.
Its people, drawing styles and seeds are those of no other grid and are looked at once.
"""

from configs.ablation_figures import CLIP
from configs.focusclip_tiny import get_config as focusclip
from focusclip_jax.ablation.grid import Figures, Grid, Method


def get_grid():
    config = focusclip()
    config.steps = 1400
    return Grid(
        name="ablation_figures_full",
        purpose="confirmation",
        base=config,
        methods={
            "clip": Method(CLIP, "baseline"),
            "clip-equal-compute": Method(CLIP, "baseline", compute_of="dual"),
            "dual": Method({}, "focus"),
            "three-term": Method({"loss.focus_image": 1.0}, "focus"),
            "shuffled": Method({"data.heatmap": "shuffled"}, "control"),
            "constant": Method({"data.heatmap": "constant"}, "control"),
            "centred": Method({"data.heatmap": "centred"}, "control"),
            "random": Method({"data.heatmap": "random"}, "control"),
            "crop": Method({"model.focus_view": "crop"}, "control"),
        },
        experiment=Figures(
            folder="data/ablation/confirmation",
            seed=20,
            train_images=12_000,
            test_images=2_400,
            styles="confirmation",
            correlations=(0.0, 0.5, 0.9),
        ),
        seeds=tuple(range(100, 110)),
        fewest_seeds=5,
    )

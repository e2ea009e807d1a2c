"""Whether focus helps: the core grid with all controls, for confirmation by the rule of docs/focus.md.

    ./launch.sh ablate --config=configs/ablation_figures_full.py --budget-minutes=600

Hardware: any; a cell takes 1 to 2 minutes on one CPU core. Five seeds are 150 cells, and up to five more
follow while an interval is wider than ± 2 points.
Its people, drawing styles and seeds are those of no other grid and are looked at once. The form of
focus was chosen by configs/ablation_figures_variants.py; the controls are of that form.
"""

from configs.ablation_figures import CLIP, SWAP, THREE_TERM, base
from focusclip_jax.ablation.grid import Figures, Grid, Method

CHOSEN = SWAP | THREE_TERM


def get_grid():
    return Grid(
        name="ablation_figures_full",
        purpose="confirmation",
        base=base(),
        methods={
            "clip": Method(CLIP, "baseline"),
            "clip-equal-compute": Method(CLIP, "baseline", compute_of="dual"),
            "dual": Method({}, "focus"),
            "three-term": Method(THREE_TERM, "focus"),
            "swap": Method(CHOSEN, "focus"),
            "shuffled": Method(CHOSEN | {"data.heatmap": "shuffled"}, "control"),
            "constant": Method(CHOSEN | {"data.heatmap": "constant"}, "control"),
            "centred": Method(CHOSEN | {"data.heatmap": "centred"}, "control"),
            "random": Method(CHOSEN | {"data.heatmap": "random"}, "control"),
            "crop": Method(THREE_TERM | {"model.focus_view": "crop"}, "control"),
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

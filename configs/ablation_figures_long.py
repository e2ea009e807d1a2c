"""Does what focus does last? The chosen form and its rivals, trained four times as long.

    ./launch.sh ablate --config=configs/ablation_figures_long.py --together=3

Hardware: any; a cell takes about 6 minutes on one CPU core, and there are 18.
The confirmation grid trains 500 steps, from which accuracies still rise steeply. These 2,000 are on people,
styles and seeds of the selection, so what they say is a sign and confirms nothing.
"""

from configs.ablation_figures import CLIP, SHUFFLED, SWAP, THREE_TERM, base
from focusclip_jax.ablation.grid import Figures, Grid, Method


def get_grid():
    config = base()
    config.steps = 2_000
    return Grid(
        name="ablation_figures_long",
        purpose="selection",
        base=config,
        methods={
            "clip-equal-compute": Method(CLIP, "baseline", compute_of="swap"),
            "swap": Method(SWAP | THREE_TERM, "focus"),
            "swap-shuffled": Method(SWAP | THREE_TERM | SHUFFLED, "control"),
        },
        experiment=Figures(
            folder="data/ablation/selection",
            seed=10,
            train_images=12_000,
            test_images=2_400,
            styles="test",
            correlations=(0.0, 0.9),
        ),
        seeds=(0, 1, 2),
        fewest_seeds=3,
    )

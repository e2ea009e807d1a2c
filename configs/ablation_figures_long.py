"""Does what focus does last? The chosen form and its rivals, trained four times as long.

    ./launch.sh ablate --config=configs/ablation_figures_long.py --together=3

Hardware: any; a cell takes 6 to 14 minutes on one CPU core, and there are 18.
The confirmation grid trains 500 steps, from which accuracies still rise steeply. These 2,000 are on people,
styles and seeds of the selection, so what they say is a sign and confirms nothing.
"""

import dataclasses

from configs import ablation_figures
from configs.ablation_figures import CLIP
from focusclip_jax.ablation.grid import Method


def get_grid():
    short = ablation_figures.get_grid()
    config = ablation_figures.base()
    config.steps = 2_000
    equal = {"clip-equal-compute": Method(CLIP, "baseline", compute_of="swap")}
    return dataclasses.replace(
        short,
        name="ablation_figures_long",
        base=config,
        methods=equal | {name: short.methods[name] for name in ("swap", "swap-shuffled")},
        experiment=dataclasses.replace(short.experiment, correlations=(0.0, 0.9)),
    )

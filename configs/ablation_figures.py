"""Whether focus helps, reduced: CLIP, dual and dual with shuffled heatmaps, one correlation, three seeds.

    ./launch.sh ablate --config=configs/ablation_figures.py

Hardware: 2 CPU cores, under 3 GB of memory. Time: 9 trainings of 360 steps, under 40 minutes altogether.
For choosing methods: what it says is a sign, which configs/ablation_figures_full.py confirms or not.
"""

from configs.focusclip_tiny import get_config as focusclip
from focusclip_jax.ablation.grid import Figures, Grid, Method

CLIP = {"loss.focus_text": 0.0, "loss.focus_image": 0.0}


def get_grid():
    config = focusclip()
    config.steps = 360
    return Grid(
        name="ablation_figures",
        purpose="selection",
        base=config,
        methods={
            "clip": Method(CLIP, "baseline"),
            "dual": Method({}, "focus"),
            "shuffled": Method({"data.heatmap": "shuffled"}, "control"),
        },
        experiment=Figures(
            folder="data/ablation/selection",
            seed=10,
            train_images=12_000,
            test_images=2_400,
            styles="test",
            correlations=(0.5,),
        ),
        seeds=(0, 1, 2),
        fewest_seeds=3,
    )

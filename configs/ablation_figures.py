"""Whether focus helps, reduced: CLIP, the paper's focus and the chosen one, one correlation, three seeds.

    ./launch.sh ablate --config=configs/ablation_figures.py

Hardware: 2 CPU cores, under 3 GB of memory. Time: 12 trainings of 1 to 2 minutes, under 25 altogether.
For choosing methods: what it says is a sign, which configs/ablation_figures_full.py confirms or not.
The towers are small and the steps few, so that many methods and seeds can be paid for; batch size and
learning rate are those that served CLIP best at this length.
"""

from configs.focusclip_tiny import get_config as focusclip
from focusclip_jax.ablation.grid import Figures, Grid, Method

CLIP = {"loss.focus_text": 0.0, "loss.focus_image": 0.0}
THREE_TERM = {"loss.focus_image": 1.0}
KEEP_ALPHA = (
    (r"^alpha", 0.0, 0.0),
    (r"(kernel|token_embedding|position_embedding)$", 1.0, 1.0),
    (r"", 1.0, 0.0),
)
# α hardly moves in so few steps: its gradient passes through a sigmoid, and the learning rate is that of all
# parameters. So the background is gone from the start, and stays gone.
GONE = {"model.initial_alpha": 0.001, "optimizer.rules": KEEP_ALPHA}
SWAP = GONE | {"model.focus_view": "swap"}
SHUFFLED = {"data.heatmap": "shuffled"}


def base():
    """What all cells of the grids on figures share."""
    config = focusclip()
    config.steps = 500
    config.batch_size = 64
    config.optimizer.learning_rate = 2e-3
    config.model.embedding = 64
    config.model.image.update(depth=3, width=64, heads=1, mlp=256)
    config.model.text.update(depth=1, width=64, heads=1, mlp=256)
    return config


def get_grid():
    return Grid(
        name="ablation_figures",
        purpose="selection",
        base=base(),
        methods={
            "clip": Method(CLIP, "baseline"),
            "dual": Method({}, "focus"),
            "swap": Method(SWAP | THREE_TERM, "focus"),
            "swap-shuffled": Method(SWAP | THREE_TERM | SHUFFLED, "control"),
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

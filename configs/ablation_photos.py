"""Whether focus helps on photographs, from scratch: Stanford 40 with ten activities held out, in five ways.

    ./launch.sh ablate --config=configs/ablation_photos.py --data-dir=DIR

DIR holds stanford40/, and utkface/ and fer2013/ if you have them, laid out as docs/photographs.md shows.
Hardware: one CPU core, under 2 GB of memory. Time: 25 trainings a seed, about 2 minutes each.
For choosing: from a few thousand photographs and random weights accuracy is low, and what it says is a sign.
The towers, batch size and learning rate are those of the grids on figures, and so are the methods: the
paper's (focusclip), the one that figures chose (swap), and its control.
"""

from configs.ablation_figures import CLIP, SHUFFLED, SWAP, THREE_TERM
from configs.focusclip_photos import get_config as photos
from focusclip_jax.ablation.grid import Grid, Method
from focusclip_jax.ablation.photographs import Photographs


def get_grid():
    config = photos()
    # Less than half the patches of focusclip_photos, and texts no longer than these captions, which have at
    # most 38 tokens.
    config.model.patch_size = 12
    config.text.vocabulary = 1024
    config.text.context = 40
    config.text.buckets = (40,)
    config.model.embedding = 64
    config.model.image.update(depth=3, width=64, heads=1, mlp=256)
    config.model.text.update(depth=1, width=64, heads=1, mlp=256)
    config.optimizer.learning_rate = 2e-3
    config.batch_size = 64
    config.steps = 400
    config.log_every = 40
    config.checkpoint_every = 100
    return Grid(
        name="ablation_photos",
        purpose="selection",
        base=config,
        methods={
            "clip": Method(CLIP, "baseline"),
            "clip-equal-compute": Method(CLIP, "baseline", compute_of="focusclip"),
            "focusclip": Method({}, "focus"),
            "swap": Method(SWAP | THREE_TERM, "focus"),
            "shuffled": Method(SWAP | THREE_TERM | SHUFFLED, "control"),
        },
        experiment=Photographs(folder="data/ablation/photos", data_dir="data/photos-experiment"),
        seeds=(0, 1),
        fewest_seeds=1,
    )

"""Whether focus helps on photographs, from scratch: Stanford 40 with ten activities held out, in five ways.

    ./launch.sh ablate --config=configs/ablation_photos.py --data-dir=DIR

DIR holds stanford40/, and utkface/ and fer2013/ if you have them, laid out as docs/photographs.md shows.
Hardware: one CPU core, under 2 GB of memory. Time: 15 trainings a seed, 5 to 7 minutes each.
For choosing: from a few thousand photographs and random weights accuracy is low, and what it says is a sign.
"""

from configs.ablation_figures import CLIP
from configs.focusclip_photos import get_config as photos
from focusclip_jax.ablation.grid import Grid, Method
from focusclip_jax.ablation.photographs import Photographs


def get_grid():
    config = photos()
    # Less than half the patches of focusclip_photos, half its batch, and texts no longer than these captions,
    # which have at most 38 tokens.
    config.model.patch_size = 12
    config.text.vocabulary = 1024
    config.text.context = 40
    config.text.buckets = (40,)
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
            "focusclip": Method({}, "focus"),
            "shuffled": Method({"data.heatmap": "shuffled"}, "control"),
        },
        experiment=Photographs(folder="data/ablation/photos", data_dir="data/photos-experiment"),
        seeds=(0, 1),
        fewest_seeds=1,
    )

"""A small FocusCLIP on the embedded synthetic people: the whole path in minutes, without a download.

    ./launch.sh --config=configs/focusclip_tiny.py

Hardware: 2 CPU cores, under 2 GB of memory. Time: 7 minutes, of which training takes 4.
Metric: zero-shot top-1 over the 16 trained activities in drawing styles never trained on (chance 6.2 %),
and over 8 activities held out of training, recognised by a description of the pose (chance 12.5 %).
"""

from focusclip_jax.config import default

DATA = "data/figures"
SEEDS = {"train": 0, "validation": 1, "test": 2}


def figures(split, *flags):
    """The two commands that make one split of the embedded data set."""
    journal = f"{DATA}/journals/{split}"
    return (
        f"describe --source=figures:{SEEDS[split]} --describer=geometry --detail=short --out={journal} "
        + " ".join(flags),
        f"pack --journal={journal} --split={split} --size=original --dataset=figures --out={DATA}",
    )


def get_config():
    config = default()
    config.name = "focusclip_tiny"
    config.data.prepare = (
        *figures("train", "--figures-count=12000", "--figures-activities=trained", "--figures-styles=train"),
        *figures(
            "validation", "--figures-count=1024", "--figures-activities=trained", "--figures-styles=train"
        ),
        *figures("test", "--figures-count=2400", "--figures-activities=all", "--figures-styles=test"),
    )
    config.data.train = DATA
    config.data.validation = DATA
    config.data.how_to_get = (
        "./launch.sh --config=configs/focusclip_tiny.py without --config.data.train makes them"
    )
    config.data.image_size = 32
    config.data.crop_area = (0.7, 1.0)
    config.data.crop_aspect = 1.1
    config.data.flip = 0.5

    config.text.vocabulary = 1024
    # Short descriptions have at most 39 tokens of this vocabulary, and every batch has a long one.
    config.text.context = 40
    config.text.buckets = (40,)

    config.model.patch_size = 8
    config.model.image.pool = "mean"
    config.model.embedding = 128
    config.model.unroll = True
    config.model.image.update(depth=4, width=128, heads=4, mlp=512)
    config.model.text.update(depth=2, width=128, heads=4, mlp=512)

    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 0.05

    config.batch_size = 128
    config.steps = 400
    config.evaluate_every = 100
    config.checkpoint_every = 100
    config.evaluation.tasks = ("figures", "figures_held_out")
    return config

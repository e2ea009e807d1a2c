"""A small FocusCLIP on your own photographs, from random weights, for a machine without an accelerator.

    ./launch.sh --config=configs/focusclip_photos.py --config.data.train=DIR --config.evaluation.data_dir=DIR

Hardware: 2 CPU cores, under 2 GB of memory (1.6 at most). Time: about 20 minutes (docs/photographs.md).
Metric: zero-shot accuracy on Stanford40, UTKFace and FER2013. From scratch on a few thousand photographs
it is low; the config shows the path, not the paper's numbers: those start from published weights
(focusclip_b16).
"""

from focusclip_jax.config import default


def get_config():
    config = default()
    config.name = "focusclip_photos"
    config.data.train = "data/photos"
    config.data.how_to_get = "the commands in docs/photographs.md"
    config.data.image_size = 48
    config.data.crop_area = (0.6, 1.0)
    config.data.crop_aspect = 4 / 3
    config.data.flip = 0.5

    # Made for `annotate describe --detail=short`.
    config.text.vocabulary = 2048
    config.text.context = 64
    config.text.buckets = (48, 64)

    config.model.patch_size = 8
    config.model.image.pool = "mean"
    config.model.embedding = 128
    config.model.unroll = True
    config.model.image.update(depth=4, width=128, heads=4, mlp=512)
    config.model.text.update(depth=2, width=128, heads=4, mlp=512)

    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 0.1

    config.batch_size = 128
    config.steps = 900
    config.evaluate_every = 300
    config.checkpoint_every = 300
    config.evaluation.tasks = ("stanford40", "utkface_age", "fer2013")
    return config

"""The public 2023 code of the paper to the letter: three NT-Xent terms, batch 32, SGD, padding in the mean.

    ./launch.sh --config=configs/focusclip_b16_paper2023.py

Hardware: one NVIDIA GPU with 48 GB, or a TPU v5e-4. Not yet run on either: what follows is computed.
Time: 4.7e17 floating-point operations in float32: 5 hours at 40 % of an H100's 67 TFLOP/s.
Memory per chip by the TPU compiler's figures: 10.3 GiB on a v5e-4; one device: about 40.
Metric: zero-shot accuracy on Stanford40 (activities, top-3), UTKFace (ages) and FER2013 (emotions, top-3).

One step agrees with the same computation in PyTorch (tests/focusclip_jax/test_parity.py). Three things still
differ: that code trains with BERT's dropout of 0.1, which we do not have; it rounds heatmaps to 8 bits; and
with n captions an image it divides the batch by n, where this config draws one caption per image and step.
"""

from configs.focusclip_b16 import EPOCHS
from configs.focusclip_b16 import get_config as focusclip_b16

TRAINING_IMAGES = 14_644  # of MPII Pose Descriptions


def get_config():
    config = focusclip_b16()
    config.name = "focusclip_b16_paper2023"
    config.seed = 42

    # Whole images squeezed to a square, never mirrored; pixels in [0, 1] as they are.
    config.data.crop_area = (1.0, 1.0)
    config.data.crop_aspect = 1.0
    config.data.flip = 0.0
    config.model.pixel_mean = (0.0, 0.0, 0.0)
    config.model.pixel_std = (1.0, 1.0, 1.0)

    # Every description is padded to BERT's 512 positions, and the mean runs over all of them.
    config.text.context = 512
    config.text.buckets = (512,)
    config.model.text.pool = "mean_padded"

    config.model.alpha = "unbounded"
    config.model.dtype = "float32"
    config.model.remat = "none"
    config.loss.kind = "ntxent"
    config.loss.focus_image = 1.0

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 0
    config.optimizer.weight_decay = 0.0
    config.batch_size = 32
    config.steps = EPOCHS * TRAINING_IMAGES // config.batch_size
    config.evaluate_every = config.checkpoint_every = 2000
    return config

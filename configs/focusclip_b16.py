"""FocusCLIP of the paper's third version at full size: ViT-B/16 and BERT-base on MPII, dual objective.

    ./launch.sh --config=configs/focusclip_b16.py

Hardware: a TPU v5e-4 or larger, or one NVIDIA GPU with 80 GB. Not yet run on either: what follows is
computed.
Time: 5.2e17 floating-point operations, recomputation included. At 40 % of the bfloat16 peak that is 7 minutes
on a v5e-16 and 22 on an H100, if the loader keeps up with 2,700 and 850 images/s.
Memory per chip by the TPU compiler's figures: 9.5 GiB on a v5e-4, 4.5 on a v5e-16; one device: about 31. With
`--config.model.remat=dots`, which computes a quarter less, 10.9 on a v5e-16.
Metric: zero-shot accuracy on Stanford40 (activities, top-3), UTKFace (ages) and FER2013 (emotions, top-3).

The towers start from published weights. Without data or weights the command says what is missing and how
to get each. On other shards, from random weights and without BERT's vocabulary:

    ./launch.sh --config=configs/focusclip_b16.py --config.data.train=DIR \\
        --config.weights.image=none --config.weights.text=none --config.text.tokenizer=
"""

from focusclip_jax.config import default

IMAGES = 17_372  # of MPII with joints and an activity
EPOCHS = 64  # the paper's

HF = ".venv/bin/hf download"
VIT = "weights/vit_base_patch16_224"
BERT = "weights/bert-base-uncased"
VIT_HUB = "timm/vit_base_patch16_224.augreg_in21k_ft_in1k --revision b5b38b8f7dd93ce67d12e356a8771556b95c8cf9"
BERT_HUB = "google-bert/bert-base-uncased --revision 86b5e0934494bd15c9632b12f734a8a67f723594"


def get_config():
    config = default()
    config.name = "focusclip_b16"
    config.data.train = "data/mpii"
    config.data.how_to_get = (
        "download the images and mpii_human_pose_v1_u12_1.mat from human-pose.mpi-inf.mpg.de, then "
        "./launch.sh annotate describe --source=mpii-mat:mpii_human_pose_v1_u12_1.mat "
        "--describer=geometry --out=data/mpii/journal and "
        "./launch.sh annotate pack --journal=data/mpii/journal --images=images --split=train --out=data/mpii"
    )
    config.data.crop_area = (0.6, 1.0)
    config.data.crop_aspect = 4 / 3
    config.data.flip = 0.5
    config.data.threads = 16

    config.text.tokenizer = f"{BERT}/vocab.txt"
    config.text.vocabulary = 30_522
    config.text.how_to_get = f"{HF} {BERT_HUB} vocab.txt --local-dir {BERT}"
    # Descriptions of one person in MPII have at most 208 WordPieces, of several up to 270. In a batch of
    # 1,024 one is always long: shorter lengths than these would never be used.
    config.text.context = 256
    config.text.buckets = (224, 256)

    config.weights.image = VIT
    config.weights.text = BERT
    config.weights.how_to_get.image = f"{HF} {VIT_HUB} model.safetensors --local-dir {VIT}"
    config.weights.how_to_get.text = f"{HF} {BERT_HUB} model.safetensors config.json --local-dir {BERT}"

    # The defaults are ViT-B/16 with the pixel range it was trained on; BERT normalises after each branch.
    config.model.text.update(norm="post", norm_epsilon=1e-12)
    config.model.dtype = "bfloat16"
    config.model.attention = "xla"  # runs everywhere; "cudnn" is meant for NVIDIA GPUs
    config.model.remat = "full"  # without it even a v5e-16 would need 37 GiB per chip

    # Contrastive learning wants many negatives, but MPII is small: 1,024 is 6 % of it and makes 64 epochs
    # 1,085 updates; a pod's usual 4,096 would leave 271.
    config.batch_size = 1024
    config.steps = EPOCHS * IMAGES // config.batch_size
    # Both towers are trained already, so a fifth of the rate for training from scratch. Not tuned.
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_steps = 100
    config.evaluate_every = 250
    config.checkpoint_every = 250
    config.evaluation.tasks = ("stanford40", "utkface_age", "fer2013")
    return config

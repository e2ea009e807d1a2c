"""FocusCLIP at the size of ViT-L/14, from OpenAI's CLIP, dual objective, on MPII.

    ./launch.sh --config=configs/focusclip_l14.py

Hardware: a TPU v5e-16 or larger; or one NVIDIA GPU with 80 GB and --config.micro_batches=16. Not yet run on
either: what follows is computed.
Time: 2.1e18 floating-point operations, recomputation included. At 40 % of the bfloat16 peak: 27 minutes
on a v5e-16 and 86 on an H100.
Memory per chip by the TPU compiler's figures: 9.1 GiB on a v5e-16.
Metric: zero-shot accuracy on Stanford40 (activities, top-3), UTKFace (ages) and FER2013 (emotions, top-3).

For 336 pixels add --config.data.image_size=336: the position embeddings are resized.
"""

from configs.focusclip_b16 import HF
from configs.focusclip_clip_b16 import get_config as focusclip_clip_b16

CLIP = "weights/clip_vit_l14"
HUB = "openai/clip-vit-large-patch14 --revision 32bd64288804d66eefd0ccbe215aa642df71cc41"
FILES = "model.safetensors config.json tokenizer.json preprocessor_config.json"


def get_config():
    config = focusclip_clip_b16()
    config.name = "focusclip_l14"
    config.weights.clip = CLIP
    config.weights.how_to_get.clip = f"{HF} {HUB} {FILES} --local-dir {CLIP}"
    config.text.tokenizer = f"{CLIP}/tokenizer.json"
    config.text.how_to_get = config.weights.how_to_get.clip
    config.model.patch_size = 14
    config.model.embedding = 768
    config.model.image.update(depth=24, width=1024, heads=16, mlp=4096)
    config.model.text.update(width=768, heads=12, mlp=3072)
    # Activations of a quarter of the batch at a time; the loss still compares all 1,024.
    config.micro_batches = 4
    return config

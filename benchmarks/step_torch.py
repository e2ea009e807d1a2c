"""The other side of `benchmarks.step`: the same model and update in plain torch. Needs torch and numpy only.

It is what one would write: nn.Linear, F.scaled_dot_product_attention, F.gelu, F.layer_norm, AdamW in its
fused form, both views of the image in one call. Parameters carry our names and come from our side, so that
the losses of both can be compared step by step.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np


def main() -> None:
    """Answer each line of stdin with one of stdout: the folder of a row, then "step" again and again."""
    import torch

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    print(f"torch {torch.__version__}, {cores} threads", flush=True)
    step = None
    for line in sys.stdin:
        if line.strip() == "step":
            wall, cpu = time.perf_counter(), time.process_time()
            loss = step()
            answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "loss": loss}
        else:
            step, parameters = make_step(line.strip())
            answer = {"parameters": parameters}
        print(json.dumps(answer), flush=True)


def make_step(folder: str, device: str = "cpu", prepare=lambda model: model):
    """A function that makes one update and returns the loss before it, and the number of parameters.

    prepare: what to do with the model before it is called, for example to compile it.
    """
    import torch
    import torch.nn.functional as F
    from torch import nn

    with open(f"{folder}/shape.json") as file:
        shape = json.load(file)
    torch.set_default_device(device)
    batch = {
        name: torch.from_numpy(value).to(device) for name, value in np.load(f"{folder}/batch.npz").items()
    }

    class Block(nn.Module):
        def __init__(self, tower):
            super().__init__()
            width, self.heads, self.post = tower["width"], tower["heads"], tower["norm"] == "post"
            self.attention_norm = nn.LayerNorm(width, tower["norm_epsilon"])
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
            self.mlp_norm = nn.LayerNorm(width, tower["norm_epsilon"])
            self.up = nn.Linear(width, tower["mlp"])
            self.down = nn.Linear(tower["mlp"], width)

        def attend(self, x, mask):
            batch, tokens, width = x.shape
            q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, mask)
            return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))

        def mlp(self, x):
            return self.down(F.gelu(self.up(x)))

        def forward(self, x, mask):
            if self.post:
                x = self.attention_norm(x + self.attend(x, mask))
                return self.mlp_norm(x + self.mlp(x))
            x = x + self.attend(self.attention_norm(x), mask)
            return x + self.mlp(self.mlp_norm(x))

    class Image(nn.Module):
        def __init__(self, tower):
            super().__init__()
            width, self.size = tower["width"], tower["patch_size"]
            tokens = (tower["image_size"] // self.size) ** 2 + (tower["pool"] == "class")
            self.patch = nn.Linear(3 * self.size**2, width)
            if tower["pool"] == "class":
                self.class_embedding = nn.Parameter(torch.zeros(width))
            self.position_embedding = nn.Parameter(torch.zeros(tokens, width))
            self.blocks = nn.ModuleList(Block(tower) for _ in range(tower["depth"]))
            self.norm = nn.LayerNorm(width, tower["norm_epsilon"])
            self.projection = nn.Linear(width, shape["embedding"])

        def forward(self, images):
            batch, height, width, _ = images.shape
            p = self.size
            x = images.view(batch, height // p, p, width // p, p, 3).transpose(2, 3).flatten(3).flatten(1, 2)
            x = self.patch(x)
            if hasattr(self, "class_embedding"):
                x = torch.cat([self.class_embedding.expand(batch, 1, -1), x], 1)
            x = x + self.position_embedding
            for block in self.blocks:
                x = block(x, None)
            if hasattr(self, "class_embedding"):
                return self.projection(self.norm(x[:, 0]))
            return self.projection(self.norm(x).mean(1))

    class Text(nn.Module):
        def __init__(self, tower):
            super().__init__()
            width, self.post = tower["width"], tower["norm"] == "post"
            self.token_embedding = nn.Parameter(torch.zeros(tower["vocabulary"], width))
            self.position_embedding = nn.Parameter(torch.zeros(tower["context"], width))
            self.blocks = nn.ModuleList(Block(tower) for _ in range(tower["depth"]))
            self.norm = nn.LayerNorm(width, tower["norm_epsilon"])
            self.projection = nn.Linear(width, shape["embedding"])

        def forward(self, tokens, lengths):
            keep = torch.arange(tokens.shape[1]) < lengths[:, None]
            x = F.embedding(tokens, self.token_embedding) + self.position_embedding[: tokens.shape[1]]
            x = self.norm(x) if self.post else x
            for block in self.blocks:
                x = block(x, keep[:, None, None])
            x = x if self.post else self.norm(x)
            return self.projection((x * keep[..., None]).sum(1) / lengths[:, None])

    class FocusCLIP(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.text = Image(shape["image"]), Text(shape["text"])
            self.alpha_parameter = nn.Parameter(torch.zeros(()))
            self.log_scale = nn.Parameter(torch.zeros(()))
            self.logit_bias = nn.Parameter(torch.zeros(()))

        def forward(self, batch):
            image = batch["image"] / 255.0
            alpha = self.alpha_parameter.sigmoid()
            focus = image * (alpha + (1 - alpha) * batch["heatmap"])[..., None]
            mean, std = torch.tensor(shape["pixel_mean"]), torch.tensor(shape["pixel_std"])
            views = self.image((torch.cat([image, focus]) - mean) / std)
            image, focus = F.normalize(views, dim=-1).chunk(2)
            text = F.normalize(self.text(batch["tokens"][:, 0], batch["lengths"][:, 0]), dim=-1)
            scale = self.log_scale.clamp(0, np.log(100)).exp()
            target = torch.arange(len(text))
            loss = 0.0
            for view in (image, focus):
                logits = scale * view @ text.T
                loss = loss + (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
            return loss

    model = FocusCLIP()
    parameters = dict(model.named_parameters())
    load(parameters, np.load(f"{folder}/parameters.npz"))
    plain = [p for name, p in parameters.items() if p.ndim < 2 or "norm" in name]
    decayed = [p for p in parameters.values() if not any(p is other for other in plain)]
    settings = shape["optimizer"]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings["weight_decay"]},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=settings["learning_rate"],
        betas=(settings["b1"], settings["b2"]),
        weight_decay=settings["weight_decay"],
        fused=True,
    )

    loss_of = prepare(model)

    def step():
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        # A parameter that a loss does not use has no gradient; ours has a zero one.
        nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        optimizer.step()
        return loss.item()

    return step, sum(p.numel() for p in parameters.values())


def load(parameters, values) -> None:
    """Copy our arrays into torch's, every one of both: layers apart, kernels transposed."""
    import torch

    left = dict(values)
    for name, parameter in parameters.items():
        path = name.split(".")
        layer = int(path.pop(2)) if path[1:2] == ["blocks"] else None
        kind = path[-1]
        if kind in ("weight", "bias"):
            module, leaf = path[-2], "bias"
            if kind == "weight":
                leaf = "scale" if module.endswith("norm") else "kernel"
            path[-2:] = [f"{module}_{leaf}"]
        ours = "/".join(path)
        value = values[ours] if layer is None else values[ours][layer]
        left.pop(ours, None)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(value.T if ours.endswith("_kernel") else value))
    assert not left, f"without a counterpart in torch: {sorted(left)}"


if __name__ == "__main__":
    main()

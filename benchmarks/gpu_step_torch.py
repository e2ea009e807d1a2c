"""The other side of `benchmarks.gpu_step`: a compiled bfloat16 step. Needs torch, numpy and open_clip.

    python gpu_step_torch.py b16|clip FOLDER [--remat] [--tiny]

FOLDER is where our side left its weights and its batch. Prints one line of JSON.
"""

from __future__ import annotations

import functools
import json
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import step_torch

STEPS, WARM = 10, 3


def main() -> None:
    import torch
    from torch.utils.checkpoint import checkpoint

    row, folder = sys.argv[1:3]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # The optimizer and what is left in float32 by autocast.
    torch.set_float32_matmul_precision("high")

    def prepare(model):
        if "--remat" in sys.argv and row == "b16":
            for tower in (model.image, model.text):
                for block in tower.blocks:
                    block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
        compiled = torch.compile(model)

        def loss_of(batch):
            with torch.autocast(device, torch.bfloat16):
                return compiled(batch)

        return loss_of

    try:
        make = step_torch.make_step if row == "b16" else open_clip_step
        step, parameters = make(folder, device, prepare)
        losses = [step() for _ in range(WARM)]
        seconds = []
        for _ in range(STEPS):
            begin = time.perf_counter()
            step()  # it ends with the loss on the host
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
    except torch.OutOfMemoryError:
        print(json.dumps({"refused": "does not fit"}))
        return
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    print(json.dumps({"parameters": parameters, "losses": losses, "seconds": seconds, "memory": memory}))


def open_clip_step(folder: str, device: str, prepare):
    """open_clip's model under our objective: `step_torch.make_step` for it."""
    import open_clip
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_default_device(device)
    with open(f"{folder}/shape.json") as file:
        settings = json.load(file)["optimizer"]
    batch = {
        name: torch.from_numpy(value).to(device) for name, value in np.load(f"{folder}/batch.npz").items()
    }
    tokens = batch["tokens"][:, 0].clamp(max=49_405)
    # Its text tower takes the position of the largest id, the end token.
    tokens[torch.arange(len(tokens)), batch["lengths"][:, 0].long() - 1] = 49_407
    clip = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None, device=device)
    if "--remat" in sys.argv:
        clip.set_grad_checkpointing()
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)

    class FocusCLIP(nn.Module):
        def __init__(self):
            super().__init__()
            self.clip = clip
            self.alpha_parameter = nn.Parameter(torch.zeros(()))

        def forward(self, batch):
            image = batch["image"].permute(0, 3, 1, 2) / 255.0
            alpha = self.alpha_parameter.sigmoid()
            focus = image * (alpha + (1 - alpha) * batch["heatmap"])[:, None]
            views = self.clip.encode_image((torch.cat([image, focus]) - mean) / std)
            text = F.normalize(self.clip.encode_text(batch["tokens"]).float(), dim=-1)
            target = torch.arange(len(text), device=text.device)
            loss = 0.0
            for view in F.normalize(views.float(), dim=-1).chunk(2):
                logits = self.clip.logit_scale.exp() * view @ text.T
                loss = loss + (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
            return loss

    model = FocusCLIP().to(device)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings["weight_decay"]},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=settings["learning_rate"],
        betas=(settings["b1"], settings["b2"]),
        fused=True,
    )
    loss_of = prepare(model)
    given = {"image": batch["image"], "heatmap": batch["heatmap"], "tokens": tokens}

    def step():
        optimizer.zero_grad()
        loss = loss_of(given)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        optimizer.step()
        return loss.item()

    return step, sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    main()

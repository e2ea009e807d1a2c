"""The other side of `benchmarks.zero_shot`: ViT and BERT of transformers, evaluated as the 2023 code does.

Needs torch, transformers, pillow and numpy. Three ways of encoding, all of them eager:

- "one": as the 2023 code. One by one, prompts padded to 512; it never switches gradients off, so autograd
  records every activation; and its timm 0.6 and transformers 4.28 write attention out in parts.
- "bare": one by one too, in inference mode and with F.scaled_dot_product_attention.
- "batch": as "bare", but everything in one batch, prompts padded to the longest.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time

import numpy as np

EMBEDDING = 512
LENGTH = 512  # tokens that a prompt is padded to


def main() -> None:
    """Answer each line of stdin with one of stdout: "make FOLDER DEPTH", then a way and what to encode."""
    import torch
    import transformers

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {cores} threads", flush=True)
    for line in sys.stdin:
        question, *rest = line.split()
        if question == "make":
            folder = pathlib.Path(rest[0])
            encode, parameters = make(folder, int(rest[1]))
            answer = {"parameters": parameters}
        else:
            start = time.perf_counter()
            with torch.inference_mode(question != "one"):
                rows = encode[rest[0]](question)
            answer = {"seconds": time.perf_counter() - start}
            if question == "one":
                np.save(folder / "theirs.npy", rows.numpy())
        print(json.dumps(answer), flush=True)


def make(folder: pathlib.Path, depth: int):
    """Random towers, which are left in the folder in Hugging Face's layout, and what encodes by kind."""
    import PIL.Image
    import torch
    import torch.nn.functional as F
    from torch import nn
    from transformers import BertConfig, BertModel, BertTokenizerFast, ViTConfig, ViTModel

    torch.manual_seed(0)
    image = ViTModel(ViTConfig(num_hidden_layers=depth, layer_norm_eps=1e-6), add_pooling_layer=False).eval()
    text = BertModel(BertConfig(num_hidden_layers=depth), add_pooling_layer=False).eval()
    for module in (*image.modules(), *text.modules()):  # transformers starts with biases that are all zero
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.02)
    projections = {name: nn.Linear(768, EMBEDDING) for name in ("image", "text")}
    image.save_pretrained(folder / "image")
    text.save_pretrained(folder / "text")
    np.savez(
        folder / "projections.npz",
        **{f"{name}_kernel": linear.weight.detach().numpy().T for name, linear in projections.items()},
        **{f"{name}_bias": linear.bias.detach().numpy() for name, linear in projections.items()},
    )
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    photos = sorted((folder / "photos").iterdir())
    prompts = json.loads((folder / "prompts.json").read_text())

    def pixels(path):
        square = PIL.Image.open(path).convert("RGB").resize((224, 224), PIL.Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255

    def encode_images(way: str):
        image.set_attn_implementation("eager" if way == "one" else "sdpa")

        def of(paths):
            batch = torch.stack([pixels(path) for path in paths])
            rows = projections["image"](image(batch).last_hidden_state[:, 0])
            return F.normalize(rows, dim=-1).detach()

        return of(photos) if way == "batch" else torch.cat([of([path]) for path in photos])

    def encode_prompts(way: str):
        text.set_attn_implementation("eager" if way == "one" else "sdpa")

        def of(texts, **padding):
            batch = tokenizer(texts, return_tensors="pt", **padding)
            hidden = text(**batch).last_hidden_state
            F.normalize(projections["text"](hidden.mean(1)), dim=-1)  # the 2023 code's answer
            own = batch["attention_mask"][..., None]
            return F.normalize(projections["text"]((hidden * own).sum(1) / own.sum(1)), dim=-1).detach()

        if way == "batch":
            return of(prompts, padding="longest")
        return torch.cat([of([prompt], padding="max_length", max_length=LENGTH) for prompt in prompts])

    towers = (image, text, *projections.values())
    parameters = sum(p.numel() for tower in towers for p in tower.parameters())
    return {"images": encode_images, "prompts": encode_prompts}, parameters


if __name__ == "__main__":
    main()

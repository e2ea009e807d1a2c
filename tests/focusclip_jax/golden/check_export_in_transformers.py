"""Compare an exported model in transformers with what our encoder said of the same images and texts.

    python tests/focusclip_jax/golden/check_export_in_transformers.py FOLDER EXPECTED.npz

Needs torch and transformers. FOLDER: what `./launch.sh export` wrote. EXPECTED.npz: "texts", "image_0",
"image_1" … (uint8 RGB of any size), and "image_embeddings" and "text_embeddings" of them. Prints the
largest differences as JSON.
"""

import json
import sys

import numpy as np
import PIL.Image
import torch
from transformers import CLIPModel, CLIPProcessor


def main(folder: str, expected_path: str) -> None:
    expected = np.load(expected_path)
    processor = CLIPProcessor.from_pretrained(folder)
    model, loading = CLIPModel.from_pretrained(folder, output_loading_info=True)
    images = [PIL.Image.fromarray(expected[f"image_{i}"]) for i in range(len(expected["image_embeddings"]))]
    texts = expected["texts"].tolist()
    inputs = processor(text=texts, images=images, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        outputs = model.eval()(**inputs)
    difference = {
        name: float(np.abs(getattr(outputs, ours).numpy() - expected[theirs]).max())
        for name, ours, theirs in (
            ("image", "image_embeds", "image_embeddings"),
            ("text", "text_embeds", "text_embeddings"),
        )
    }
    loading = {name: sorted(map(str, values)) for name, values in loading.items() if values}
    print(json.dumps({**difference, "loading": loading}))


if __name__ == "__main__":
    main(*sys.argv[1:])

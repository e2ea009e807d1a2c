"""The other side of `benchmarks.loader`: torch's DataLoader. Needs torch, numpy and pillow only.

It is what one would write: open, decode, a tensor, token ids from memory, all in the main process.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
import time


def main() -> None:
    """Answer each line of stdin with one of stdout: a folder of JPEGs, then "BATCH BATCHES" a round."""
    import numpy as np
    import PIL.Image
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, pillow {PIL.__version__}, no workers", flush=True)
    folder = pathlib.Path(sys.stdin.readline().strip())
    tokens = torch.from_numpy(np.load(folder / "tokens.npy"))

    class Photographs:
        def __len__(self):
            return len(tokens)

        def __getitem__(self, i):
            with PIL.Image.open(folder / f"{i}.jpg") as photograph:
                return torch.from_numpy(np.array(photograph.convert("RGB"))), tokens[i]

    print(json.dumps({"images": len(tokens)}), flush=True)
    iterator = None
    for line in sys.stdin:
        batch, batches = map(int, line.split())
        if iterator is None:
            loader = DataLoader(Photographs(), batch, shuffle=True, drop_last=True)
            iterator = itertools.chain.from_iterable(loader for _ in itertools.count())
            next(iterator)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(batches):
            next(iterator)
        each = 1e3 / (batch * batches)
        answer = {"wall": (time.perf_counter() - wall) * each, "cpu": (time.process_time() - cpu) * each}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

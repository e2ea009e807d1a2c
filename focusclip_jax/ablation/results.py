"""The result of a cell as a small JSON file: enough for every table and interval without training again."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from focusclip_jax.ablation.grid import Cell
from focusclip_jax.ablation.measure import pack_bits, unpack_bits
from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a cell.

    about: method, condition (by the name of its axis), seed, settings, key, code, commit, packages, device,
        config (its differences from the defaults), steps, flops, seconds of training and of testing, the
        shards' fingerprints, and what the experiment adds.
    measures: name → bool (N,), as the experiment gives them.
    attention: reading → {"inside", "area"}. alpha, loss: (step, value) as logged; alpha is empty where there
        is no second view.
    """

    about: Mapping[str, Any]
    measures: Mapping[str, np.ndarray]
    attention: Mapping[str, Mapping[str, float]]
    alpha: Sequence[tuple[int, float]]
    loss: Sequence[tuple[int, float]]


def path_of(folder: pathlib.Path, cell: Cell) -> pathlib.Path:
    return folder / f"{cell.name}.json"


def write(path: pathlib.Path, result: Result) -> None:
    content = {
        **result.about,
        "attention": result.attention,
        "alpha": result.alpha,
        "loss": result.loss,
        "measures": {
            name: {"n": len(bits), "share": round(float(bits.mean()), 6), "bits": pack_bits(bits)}
            for name, bits in result.measures.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
    write_text(path, f"{{\n{lines}\n}}\n")


def read(path: pathlib.Path) -> Result:
    """Raises UserError for a file that is no whole result."""
    try:
        content = json.loads(path.read_text())
        measures = {name: unpack_bits(m["bits"], m["n"]) for name, m in content.pop("measures").items()}
        attention, alpha, loss = (content.pop(name) for name in ("attention", "alpha", "loss"))
        _ = content["settings"], content["key"], content["code"]
        return Result(content, measures, attention, alpha, loss)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the result of a cell ({error!r}); remove it to have it made") from None


def find(folder: pathlib.Path, cell: Cell) -> Result | None:
    """The result of these settings, by whatever version of the code; None where there is none."""
    path = path_of(folder, cell)
    if not path.exists():
        return None
    result = read(path)
    return result if result.about["settings"] == cell.settings else None

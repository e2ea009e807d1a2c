"""The folder of one run: what it was started with, what it logged, and whether it may be resumed.

config.json, run.json, tokenizer.json, training_text.json, parameters.txt (shapes and shardings),
metrics.jsonl, checkpoints/, evaluation/, plots/
"""

from __future__ import annotations

import dataclasses
import datetime
import errno
import importlib.metadata
import json
import pathlib
import platform
import re
import subprocess
from typing import Any

import jax
from ml_collections import ConfigDict

from focusclip_jax import config as configs
from focusclip_jax import distributed
from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "pillow")


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths below the folder of a run."""

    root: pathlib.Path

    def __post_init__(self):
        """Raises UserError for the address of a bucket, which pathlib would take for a folder named "gs:"."""
        if re.match(r"\w+:/", str(self.root)):
            address = str(self.root).replace(":/", "://", 1)
            raise UserError(
                f"--workdir={address}: expected a folder; keep it on a file system that all processes share, "
                "or mount the bucket (docs/scale.md)"
            )

    @property
    def config(self) -> pathlib.Path:
        return self.root / "config.json"

    @property
    def run(self) -> pathlib.Path:
        return self.root / "run.json"

    @property
    def tokenizer(self) -> pathlib.Path:
        return self.root / "tokenizer.json"

    @property
    def training_text(self) -> pathlib.Path:
        return self.root / "training_text.json"

    @property
    def parameters(self) -> pathlib.Path:
        return self.root / "parameters.txt"

    @property
    def metrics(self) -> pathlib.Path:
        return self.root / "metrics.jsonl"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.root / "checkpoints"

    @property
    def evaluation(self) -> pathlib.Path:
        return self.root / "evaluation"

    @property
    def plots(self) -> pathlib.Path:
        return self.root / "plots"

    @property
    def cache(self) -> pathlib.Path:
        return self.root / "cache"


def create(root: pathlib.Path) -> Workdir:
    """Make the folder. Raises UserError where that is not possible."""
    workdir = Workdir(root)
    try:
        for path in (workdir.evaluation, workdir.plots, workdir.cache):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={root}: cannot be written ({error.strerror})") from None
    return workdir


def begin(workdir: Workdir, config: ConfigDict, fingerprint: str, tokenizer_hash: str) -> None:
    """Record the run, or check that it may go on: same shards, tokenizer and model.

    Other settings may change between two starts; each change is printed. With several processes the first one
    records and the others find what it wrote; UserError where they do not.
    """
    if workdir.run.exists():
        _check_resume(workdir, config, fingerprint, tokenizer_hash)
    elif not distributed.is_first():
        raise UserError(
            f"--workdir={workdir.root}: what the first process wrote is not here; expected a folder on "
            "a file system that all processes share"
        )
    if not distributed.is_first():
        return
    write_text(workdir.config, configs.to_json(config))
    write_text(workdir.run, json.dumps(_describe(config, fingerprint, tokenizer_hash), indent=2) + "\n")


def begin_imported(
    workdir: Workdir, config: ConfigDict, source: str, commit: str | None, tokenizer_hash: str
) -> None:
    """Record a model that is imported: from where, and at which commit. No training goes on in its folder."""
    imported = {"source": source, "commit": commit}
    described = _describe(config, None, tokenizer_hash) | {"imported": imported}
    write_text(workdir.config, configs.to_json(config))
    write_text(workdir.run, json.dumps(described, indent=2) + "\n")


def note(workdir: Workdir, **facts: Any) -> None:
    """Add to what `begin` recorded in run.json; with several processes the first one does."""
    if distributed.is_first():
        about = json.loads(workdir.run.read_text()) | facts
        write_text(workdir.run, json.dumps(about, indent=2) + "\n")


def _check_resume(workdir: Workdir, config: ConfigDict, fingerprint: str, tokenizer_hash: str) -> None:
    before = json.loads(workdir.run.read_text())
    if "imported" in before:
        raise UserError(
            f"{workdir.root}: it holds the imported {before['imported']['source']}; to train from its "
            "weights, name their folder by --config.weights.clip and choose another --workdir"
        )
    advice = "choose another --workdir to start a new run"
    if before["shards"] != fingerprint:
        raise UserError(
            f"{workdir.root}: it was trained on other shards than {config.data.train} now holds; {advice}"
        )
    if before["tokenizer"] != tokenizer_hash:
        raise UserError(f"{workdir.root}: it was trained with another tokenizer; {advice}")
    old = dict(configs.leaves(configs.from_json(workdir.config)))
    new = dict(configs.leaves(configs.recorded(config)))
    changed = {
        name: (old.get(name), new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    }
    structural = (
        "model.",
        "weights.clip",
        "weights.image",
        "weights.text",
        "data.image_size",
        "data.fit",
        "data.interpolation",
        "text.context",
        "text.vocabulary",
        "loss.kind",
        "optimizer.name",
        "optimizer.custom",
        "optimizer.rules",
        "seed",
    )
    for name, (was, now) in changed.items():
        if name.startswith(structural):
            raise UserError(f"{workdir.root}: it was trained with {name}={was}, not {now}; {advice}")
        print(f"{workdir.root}: going on with {name}={now} (was {was})")


def _describe(config: ConfigDict, fingerprint: str | None, tokenizer_hash: str) -> dict[str, Any]:
    commit, dirty = _git()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()],
        "processes": jax.process_count(),
        "seed": config.seed,
        "shards": fingerprint,
        "tokenizer": tokenizer_hash,
    }


def _git() -> tuple[str | None, bool | None]:
    """Commit of the code that runs and whether it was changed since; None outside a checkout."""
    here = pathlib.Path(__file__).parent

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD").strip(), bool(changes.strip())
    except (OSError, subprocess.CalledProcessError):
        return None, None


class MetricsLog:
    """`metrics.jsonl`: one JSON object per line, each with its step."""

    def __init__(self, path: pathlib.Path, resume_step: int):
        """Rows after `resume_step` belong to steps that will be done again: they are dropped.

        With several processes only the first one writes.
        """
        self._path = path
        kept = [row for row in read_metrics(path) if row["step"] <= resume_step]
        # Rows of training carry a loss, rows of evaluation do not.
        self._evaluated = {row["step"] for row in kept if "loss" not in row}
        self._writes = distributed.is_first()
        if self._writes:
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    def has_evaluation(self, step: int) -> bool:
        """Whether the evaluation of this step is there already; a kill may have come before it."""
        return step in self._evaluated

    def write(self, step: int, values: dict[str, Any]) -> None:
        if not self._writes:
            return
        if not self._path.exists():  # to begin it anew would hide that the folder is gone
            raise FileNotFoundError(errno.ENOENT, "the file of this run is gone", str(self._path))
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Rows of `metrics.jsonl`. A last line that a killed process left unfinished is dropped."""
    if not path.exists():
        return []
    # What follows the last line break is empty, or a row that was cut off.
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]

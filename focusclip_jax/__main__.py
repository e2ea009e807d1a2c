"""The verbs of `./launch.sh` that need the model: prepare, train, dry-run, profile, evaluate, ablate,
report, demo, import, export."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import focusclip_jax
from annotation.errors import reader_is_gone
from focusclip_jax.errors import UserError

HELP = """\
FocusCLIP-JAX: CLIP with Subject-Focused Attention, from keypoints to zero-shot results.

  focusclip configs
        Copy the shipped config files into ./configs, to use and to change.
  focusclip [train] --config=FILE [--workdir=DIR] [--config.a.b=VALUE …]
        Train (or go on with) a model, evaluate it, print the results table and draw pictures.
  focusclip dry-run --config=FILE [--topology=v5e:4x4]
        Compile the training step without its hardware or data: memory, communication, time.
  focusclip profile --config=FILE [--steps=N] [--out=DIR]
        Trace real training steps, and say on one page where their time goes and what limits them.
  focusclip evaluate --workdir=DIR [--data-dir=DIR] [--tasks=A,B]
        Evaluate a checkpoint on every task whose data is there.
  focusclip report DIR…
        Results of one or more workdirs side by side, also as a page (report.html).
  focusclip ablate --config=FILE [--together=N]
        Run a grid of methods × correlations × seeds, each cell once, and say what it shows;
        --together trains up to N seeds at once.
  focusclip demo --workdir=DIR [--compare=DIR]
        A page on this machine: drop a photo, type labels, see which fit and where the models look.
  focusclip import --from=FOLDER_OR_ID --workdir=DIR
        A published CLIP as a workdir to evaluate.
  focusclip export --workdir=DIR --out=DIR
        A checkpoint as a model for transformers and open_clip.
  focusclip --version

Keypoints to descriptions and shards: focusclip-annotate --help. Where the documents say ./launch.sh, an
installed package says focusclip, and for ./launch.sh annotate it says focusclip-annotate."""


def main(verb: str, arguments: list[str]) -> None:
    # Each verb imports what it needs: `prepare` and `report` start without JAX.
    if verb == "prepare":
        from focusclip_jax import config, prepare

        config.define_flags()
        prepare.run(config.parse(arguments)[0])
    elif verb == "train":
        from focusclip_jax import train

        train.main(arguments)
    elif verb == "evaluate":
        from focusclip_jax import evaluate

        evaluate.main(arguments)
    elif verb == "report":
        from focusclip_jax import page
        from focusclip_jax.evaluation import report

        if not arguments:
            raise UserError("report: expected one or more workdirs")
        workdirs = [pathlib.Path(argument) for argument in arguments]
        print(report.compare(workdirs))
        print(f"\nReport: {page.write(workdirs)}")
    elif verb == "demo":
        from focusclip_jax import demo

        demo.main(arguments)
    elif verb == "import":
        from focusclip_jax.weights import importing

        importing.main(arguments)
    elif verb == "ablate":
        from focusclip_jax.ablation import run

        run.main(arguments)
    elif verb == "dry-run":
        from focusclip_jax import dry_run

        dry_run.main(arguments)
    elif verb == "profile":
        from focusclip_jax.profiling import run as profile

        profile.main(arguments)
    elif verb == "export":
        from focusclip_jax.weights import exporting

        exporting.main(arguments)
    else:
        raise UserError(f"unknown verb {verb!r}; ./launch.sh --help lists them")


def run(verb: str, arguments: list[str]) -> int:
    """`main` as a program: an error is one sentence on stderr; returns the exit status."""
    try:
        main(verb, arguments)
        sys.stdout.flush()
    except (UserError, OSError) as error:  # an OSError names its file: a full disk, a folder that is gone
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return 141  # as a shell says it of a program that SIGPIPE ended
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def console() -> int:
    """The command `focusclip` of an installed package: what `./launch.sh` is to a checkout.

    Reads `sys.argv`. Like launch.sh it makes a config's own data before training, in a process of its own.
    """
    sys.path.insert(0, "")  # as `python -m` does: a config file imports its neighbours as `configs`
    verb, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if verb == "--version":
        print(focusclip_jax.__version__)
        return 0
    if verb == "configs":
        return _copy_configs(pathlib.Path("configs"))
    if verb.startswith("--"):
        verb, arguments = "train", [verb, *arguments]
    if verb == "train":
        prepare = [sys.executable, "-m", "focusclip_jax", "prepare", *arguments]
        try:
            code = subprocess.run(prepare, check=False).returncode
        except KeyboardInterrupt:  # the other process has said so
            return 130
        if code:
            return code
    return run(verb, arguments)


def _copy_configs(out: pathlib.Path) -> int:
    """The shipped config files into `out`; a file of yours that is there already stays as it is."""
    here = pathlib.Path(__file__).parent
    shipped = here / "configs"  # of a wheel; in a checkout they lie beside the package
    if not shipped.is_dir():
        shipped = here.parent / "configs"
    try:
        out.mkdir(exist_ok=True)
        for source in sorted(shipped.glob("*.py")):
            target = out / source.name
            text = source.read_text("utf-8")
            if target.exists() and target.read_text("utf-8") != text:
                print(f"{target}: there already and different; left as it is")
                continue
            target.write_text(text, "utf-8")
            print(target)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]))

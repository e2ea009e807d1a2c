"""The verbs of `./launch.sh` that need the model: prepare, train, dry-run, evaluate, ablate, report, import,
export."""

from __future__ import annotations

import pathlib
import sys

from focusclip_jax.errors import UserError


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
        from focusclip_jax.evaluation import report

        if not arguments:
            raise UserError("report: expected one or more workdirs")
        print(report.compare([pathlib.Path(argument) for argument in arguments]))
    elif verb == "import":
        from focusclip_jax.weights import importing

        importing.main(arguments)
    elif verb == "ablate":
        from focusclip_jax.ablation import run

        run.main(arguments)
    elif verb == "dry-run":
        from focusclip_jax import dry_run

        dry_run.main(arguments)
    elif verb == "export":
        from focusclip_jax.weights import exporting

        exporting.main(arguments)
    else:
        raise UserError(f"unknown verb {verb!r}; ./launch.sh --help lists them")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:])
    except (UserError, OSError) as error:  # an OSError names its file: a full disk, a folder that is gone
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)

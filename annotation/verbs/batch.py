"""`annotate batch submit` and `annotate batch collect`: describing at half the price, within a day."""

from __future__ import annotations

import argparse
from pathlib import Path

from annotation.verbs import asking, source
from annotation.verbs.batch_collect import collect
from annotation.verbs.batch_submit import submit

SUBMIT = f"""\
{source.FORMATS}
OUT is that of `annotate describe`: what one of the two has got, the other does not ask for again. Run the
same command again after an interruption, or when new images or refused answers are to be asked.

Known prices are halved, as OpenAI does for batches; --price is taken as it is given. An account may queue
only so many tokens: begin with a small --limit and raise it after each collect.

examples:
  annotate batch submit --source=coco:people.json --model=gpt-6-luna --reasoning-effort=none \\
      --max-cost=5 --out=runs/people
  annotate batch submit --source=coco:people.json --model=NAME --base-url=http://localhost:8000/v1 \\
      --files-only --out=runs/people
  vllm run-batch -i runs/people/batches/part-00001.jsonl -o answers.jsonl --model NAME
  annotate batch collect --results=answers.jsonl --out=runs/people
"""


def add_parser(verbs: argparse._SubParsersAction) -> None:
    batch = verbs.add_parser(
        "batch",
        help="describe through a batch API, or files for vllm run-batch",
        description="Describe with a language model by the file: half the price, answers within a day.",
    )
    actions = batch.add_subparsers(required=True, metavar="submit|collect")

    parser = actions.add_parser(
        "submit",
        help="write requests into files and start their batches",
        description="Write requests for the images without a caption into files; start a batch of each.",
        epilog=SUBMIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=submit, part=None)
    source.add_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the journal lives")
    asking.add_model_arguments(parser.add_argument_group("a language model"))
    spending = parser.add_argument_group("how it is asked")
    asking.add_spending_arguments(spending)
    spending.add_argument(
        "--files-only",
        action="store_true",
        help="write the files and send nothing; --base-url then says who will answer them",
    )
    source.add_figures_arguments(parser)

    parser = actions.add_parser(
        "collect",
        help="take over the answers",
        description="Take the answers of ended batches into the journal, in whatever order they come.",
    )
    parser.set_defaults(run=collect)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="OUT of submit")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--wait", action="store_true", help="until every batch has ended")
    how.add_argument(
        "--results",
        action="append",
        type=Path,
        metavar="FILE",
        help="answers that you have as a file, such as the output of vllm run-batch; may be given several "
        "times. Parts of which they answer nothing stay open",
    )
    how.add_argument(
        "--give-up",
        action="store_true",
        help="wait no more for parts that no service answers; what they may have cost stays reserved",
    )
    parser.add_argument(
        "--poll", type=asking.amount, default=60.0, metavar="SECONDS", help="between looks (default 60)"
    )

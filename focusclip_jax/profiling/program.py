"""What each instruction of a compiled step is: its part of the model, its pass, and its kind of work."""

from __future__ import annotations

import collections
import dataclasses
import re

# `jax.named_scope`s of the model and of the step.
PARTS = ("image_tower", "text_tower", "highlight", "loss", "optimizer")
MATMUL, OTHER_MATHS, COPY, COLLECTIVE = (
    "matrix products",
    "element-wise and reductions",
    "copies",
    "collectives",
)
KINDS = (MATMUL, OTHER_MATHS, COPY, COLLECTIVE)

# Of a program's text, line by line: the head of a computation, an instruction, and what is said of it.
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (?:\(.*?\)|\S+) ([a-z][\w\-]*)\(")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLS = re.compile(r"\b(?:calls|to_apply)=%?([\w.\-]+)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
# Names of library functions that multiply matrices; opcodes that communicate, and that only move.
_PRODUCTS = re.compile(r"gemm|matmul|dot|conv|fmha|attention", re.IGNORECASE)
_COLLECTIVES = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective)")
_COPIES = re.compile(r"(copy|transpose|bitcast|reshape|concatenate|slice|pad|send|recv)(-start|-done)?$")
# What says nothing of the kind of a fusion that holds it.
_WIRES = ("parameter", "constant", "tuple", "get-tuple-element", "broadcast", "bitcast", "iota", "convert")


@dataclasses.dataclass(frozen=True)
class Operation:
    """What a compiled instruction is: its part of the model, pass, kind, and the primitive it came from."""

    part: str
    direction: str
    kind: str
    primitive: str


def meanings_of(text: str) -> dict[str, Operation]:
    """instruction → what it is, for a compiled program's text. A fusion is what its instructions are."""
    lines: dict[str, list[tuple[str, str, str]]] = collections.defaultdict(list)
    here = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            here = head[1]
        elif found := _INSTRUCTION.match(line):
            lines[here].append((found[1], found[2], line))

    def inside(line: str) -> list[tuple[str, str, str]]:
        called = _CALLS.search(line)
        return [
            part for one in (lines.get(called[1], []) if called else []) for part in (one, *inside(one[2]))
        ]

    meanings = {}
    for instructions in list(lines.values()):
        for name, opcode, line in instructions:
            body = inside(line) if opcode in ("fusion", "call", "async-start") else []
            kinds = {kind_of(opcode, line) for _, opcode, line in body if opcode not in _WIRES}
            if not kinds:
                kinds = {kind_of(opcode, line)}
            kind = next(kind for kind in (MATMUL, COLLECTIVE, OTHER_MATHS, COPY) if kind in kinds)
            names = [found[1] for one in (line, *(one[2] for one in body)) if (found := _OP_NAME.search(one))]
            source = next((one for one in names if part_of(one)), names[0] if names else "")
            primitive = source.rsplit("/", 1)[-1] or opcode
            meanings[name] = Operation(part_of(source) or "other", direction_of(source), kind, primitive)
    return meanings


def kind_of(opcode: str, line: str) -> str:
    """The kind of one instruction, by its opcode and, for a library's function, its target."""
    target = _TARGET.search(line)
    if _COLLECTIVES.match(opcode):
        return COLLECTIVE
    if opcode in ("dot", "convolution") or (target and _PRODUCTS.search(target[1])):
        return MATMUL
    return COPY if _COPIES.match(opcode) else OTHER_MATHS


def part_of(op_name: str) -> str:
    """The innermost of `PARTS` in the path of a primitive, "" where there is none."""
    found = re.findall("|".join(PARTS), op_name)
    return found[-1] if found else ""


def direction_of(op_name: str) -> str:
    """Pass that a primitive belongs to, by what JAX's transformations write into its path."""
    if "rematted_computation" in op_name:
        return "recomputed"
    return "backward" if "transpose(" in op_name else "forward"

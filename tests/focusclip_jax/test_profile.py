"""What is said of a run's speed: its profile, its rows, where its programs are kept, what it computes in."""

from __future__ import annotations

import json
import pathlib
import time

import jax
import jax.numpy as jnp
import pytest
from test_dry_run import MLP, VOCABULARY, small_config
from test_step import random_batch
from test_step import small_config as config_of_step

from focusclip_jax import compilation, flops, sharding, state
from focusclip_jax import optimizer as optimizers
from focusclip_jax.dry_run import batch_shapes, compile_step
from focusclip_jax.errors import UserError
from focusclip_jax.meter import OF_MACHINE, Meter, utilisation
from focusclip_jax.profiling import program, run, steps, trace
from focusclip_jax.profiling.summary import bottleneck
from focusclip_jax.step import gradients, make_train_step, put


def test_time_inside_a_loop_is_the_loops_only_once():
    events = [
        (0.0, 10.0, "while"),
        (1.0, 4.0, "dot"),
        (2.0, 3.0, "inner"),
        (5.0, 9.0, "add"),
        (12.0, 13.0, "x"),
    ]
    own = {event[2]: seconds for event, seconds in trace.alone(events)}
    assert own == {"while": 3.0, "dot": 2.0, "inner": 1.0, "add": 4.0, "x": 1.0}
    assert sum(own.values()) == trace.length(trace.union(event[:2] for event in events))
    assert trace.shared([(0.0, 4.0), (6.0, 8.0)], [(3.0, 7.0)]) == pytest.approx(2.0)


def test_every_instruction_of_a_real_step_is_known_by_part_pass_and_kind():
    config = small_config(**{"batch_size": 8, "model.remat": "full"})
    arch = state.architecture(config, VOCABULARY)
    mesh = sharding.make_mesh(8, 1)
    optimizer = optimizers.make(config.optimizer, config.steps)
    abstract = state.abstract(arch, optimizer, mesh)
    update = make_train_step(state.graph_of(arch), optimizer, abstract, mesh, config)
    compiled = update.lower(abstract, batch_shapes(config)).compile()
    found = set(program.meanings_of(compiled.as_text()).values())
    products = {(op.part, op.direction) for op in found if op.kind == program.MATMUL}
    towers = {(tower, way) for tower in ("image_tower", "text_tower") for way in ("forward", "backward")}
    assert products >= towers | {("image_tower", "recomputed"), ("loss", "forward"), ("loss", "backward")}
    assert {op.part for op in found} >= set(program.PARTS)
    assert any(op.kind == program.COLLECTIVE for op in found)


def summary(**changes):
    values = {
        "step_ms": 100.0,
        "device_busy_ms": 99.0,
        "device_ms": 99.0,
        "host_ms": dict.fromkeys(steps.SPANS, 0.0) | {steps.BLOCKED: 95.0},
        "kinds_ms": {
            program.MATMUL: 70.0,
            program.OTHER_MATHS: 20.0,
            program.COPY: 5.0,
            program.COLLECTIVE: 4.0,
        },
        "parts_ms": {"image_tower": {"forward": 30.0, "backward": 69.0, "recomputed": 0.0}},
        "threads": 2,
        "cores": 16,
        "dtype": "bfloat16",
        "remat": "full",
        "platform": "tpu",
        "mfu": 0.45,
    }
    return values | changes


RECOMPUTED = {"image_tower": {"forward": 30.0, "backward": 40.0, "recomputed": 29.0}}


def host(**spans):
    return {"host_ms": dict.fromkeys(steps.SPANS, 0.0) | spans}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "Compute-bound: matrix products take 71% of the device's time at 45% of the chip's bfloat16 peak",
        ),
        (
            {"device_busy_ms": 60.0, **host(**{steps.WAITING: 40.0})},
            "Input-bound: the loop waits for batches 40% of the time and the device is idle 40%; "
            "raise --config.data.threads (now 2, on 16 cores)",
        ),
        (
            {"device_busy_ms": 60.0, **host(**{steps.STARTING: 95.0})},
            "Host-bound: the device is idle 40% of the time though batches are ready",
        ),
        # A host that waits for a device with gaps is not what limits it.
        ({"device_busy_ms": 60.0}, "Compute-bound"),
        (
            {"kinds_ms": dict(zip(program.KINDS, (50.0, 10.0, 9.0, 30.0), strict=True))},
            "Communication-bound: collectives take 30% of the device's time",
        ),
        (
            {"kinds_ms": dict(zip(program.KINDS, (30.0, 50.0, 15.0, 4.0), strict=True))},
            "Memory-bound: element-wise work, reductions and copies, which move more than they compute, ",
        ),
        (
            {"parts_ms": RECOMPUTED},
            "; 29% is recomputation, which --config.model.remat=dots saves most of, and none all, where",
        ),
        (
            {"parts_ms": RECOMPUTED, "remat": "dots"},
            "; 29% is recomputation, which --config.model.remat=none saves, where memory allows it.",
        ),
        # Parts of the batch that the loss compares again.
        ({"parts_ms": RECOMPUTED, "remat": "none"}, "; fewer or shorter texts, larger patches"),
    ],
)
def test_one_sentence_names_what_limits_a_step(changes, sentence):
    said = bottleneck(summary(**changes))
    assert sentence in said
    assert said.count(". ") == 0


def test_a_profile_of_real_steps_adds_up_and_leaves_workdirs_alone(figures, run_module, tmp_path):
    out = tmp_path / "out"
    done = run_module(
        "focusclip_jax",
        "profile",
        f"--config={pathlib.Path('configs/focusclip_tiny.py').resolve()}",
        f"--config.data.train={figures}",
        "--config.batch_size=16",
        "--config.model.image.depth=1",
        "--config.model.text.depth=1",
        "--steps=3",
        f"--out={out}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "summary.json").read_text())
    assert done.stdout.strip() == (out / "summary.md").read_text().strip()
    assert found["bottleneck"] in done.stdout
    assert found["steps"] == 3
    assert found["tokens"] == {"40": 3}
    by_part = sum(sum(passes.values()) for passes in found["parts_ms"].values())
    assert found["device_ms"] == pytest.approx(by_part) == pytest.approx(sum(found["kinds_ms"].values()))
    assert sum(found["host_ms"].values()) <= found["step_ms"]
    assert 0 < found["device_busy_ms"] <= found["step_ms"] * 1.01
    # Nearly all of the device's time is of a named part: the program in the trace is the one that was read.
    assert sum(found["parts_ms"]["other"].values()) < 0.2 * found["device_ms"]
    assert found["kinds_ms"][program.MATMUL] > 0
    assert pathlib.Path(found["trace"]).is_file()
    assert list(out.glob("trace/plugins/profile/*/perfetto_trace.json.gz"))
    assert [path.name for path in tmp_path.iterdir() if path.name in ("runs", "profiles")] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--steps=0",), "error: --steps=0: expected at least 1"),
        (("--workdir=runs/x",), "error: --workdir: profile touches no workdir"),
    ],
)
def test_a_wrong_argument_of_profile_is_one_sentence(arguments, sentence):
    with pytest.raises(UserError) as raised:
        run.main(["--config=configs/focusclip_tiny.py", *arguments])
    assert f"error: {raised.value}".startswith(sentence)


def test_a_row_counts_each_steps_operations_at_the_length_of_its_texts():
    config = small_config(batch_size=16)
    arch = state.architecture(config, VOCABULARY)
    meter = Meter(config, arch, jax.devices()[:4])
    begin = time.perf_counter()
    for tokens in (8, 24):
        meter.add({"loss": jnp.float32(tokens)}, tokens)
    row = meter.read()
    assert time.perf_counter() - begin >= 2 * row["step_seconds"]
    assert row.keys() - {"loss"} <= OF_MACHINE
    assert row["loss"] == 16
    assert row["images_per_second_per_chip"] == pytest.approx(16 / row["step_seconds"] / 4)
    work = sum(flops.of_step(arch, config, tokens).model for tokens in (8, 24))
    counted = row["teraflops_per_second_per_chip"] * 1e12 * 4 * 2 * row["step_seconds"]
    assert counted == pytest.approx(work)
    assert "mfu" not in row  # nobody publishes the peak of a CPU
    assert 0.05 < row["host_memory_gib"] < 1000


def test_a_utilisation_is_of_the_published_peak():
    assert utilisation(98.5e12, "TPU v5 lite")["mfu"] == pytest.approx(0.5)
    assert utilisation(98.9e12, "NVIDIA H100 80GB HBM3")["mfu"] == pytest.approx(0.1)


def test_programs_are_kept_for_accelerators_where_the_user_keeps_caches():
    assert compilation.cache_folder("cpu", {"XDG_CACHE_HOME": "/c"}) is None
    assert compilation.cache_folder("gpu", {"XDG_CACHE_HOME": "/c"}) == pathlib.Path("/c/focusclip-jax/xla")
    assert compilation.cache_folder("tpu", {}) == pathlib.Path.home() / ".cache/focusclip-jax/xla"
    assert compilation.cache_folder("gpu", {"JAX_COMPILATION_CACHE_DIR": "/mine"}) is None


def test_attention_that_needs_a_gpu_is_refused_elsewhere_in_one_sentence():
    config = small_config(**{"model.attention": "cudnn"})
    arch = state.architecture(config, VOCABULARY)
    with pytest.raises(UserError, match=r"attention=cudnn: it runs on NVIDIA GPUs only, and this is a cpu"):
        compile_step(config, arch, sharding.make_mesh(8, 1))


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


@pytest.mark.parametrize("attention", ["matmul", "xla"])
def test_in_bfloat16_the_towers_multiply_and_all_that_is_delicate_stays_float32(attention):
    config = small_config(**{"batch_size": 8, "model.dtype": "bfloat16", "model.attention": attention})
    arch = state.architecture(config, VOCABULARY)
    mesh = sharding.make_mesh(8, 1)
    params = state.abstract_params(arch, mesh)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    learns = optimizers.trainable(config.optimizer, params)
    traced = jax.make_jaxpr(lambda p, b: gradients(p, state.graph_of(arch), b, learns, config))
    found = list(equations(traced(params, batch_shapes(config)).jaxpr))
    # Exponentials and logarithms of softmax and loss, square roots of norms; the activation's are its own.
    delicate = [e for e in found if e.primitive.name in ("exp", "log", "rsqrt", "log1p")]
    delicate = [e for e in delicate if e.invars[0].aval.shape[-1:] != (MLP,)]
    assert len(delicate) > 4
    assert {e.invars[0].aval.dtype.name for e in delicate} == {"float32"}
    products = [e for e in found if e.primitive.name == "dot_general"]
    kinds = [e.invars[0].aval.dtype.name for e in products]
    assert kinds.count("bfloat16") >= 0.7 * len(kinds)
    similarities = [e for e in products if e.outvars[0].aval.shape == (8, 8)]
    assert len(similarities) >= 4
    assert {e.invars[0].aval.dtype.name for e in similarities} == {"float32"}


def test_nothing_is_moved_to_or_from_a_device_but_the_batch():
    """JAX's guard refuses transfers that nobody asked for; handing over a batch is asked for."""
    config = config_of_step({})
    mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
    optimizer = optimizers.make(config.optimizer, config.steps)
    arch = state.architecture(config, VOCABULARY)
    update = make_train_step(
        state.graph_of(arch), optimizer, state.abstract(arch, optimizer, mesh), mesh, config
    )
    current = state.initial(arch, optimizer, mesh, 0)
    batch = jax.device_get(random_batch(config.data.captions))
    with jax.transfer_guard("disallow"):
        for _ in range(2):
            current, metrics = update(current, put(batch, mesh))
        with pytest.raises(Exception, match=r"[Dd]isallowed"):
            update(current, batch)
    assert float(metrics["loss"]) > 0

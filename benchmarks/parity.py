"""Claim: on each family's weights our towers give its own code's embeddings to 1e-5, and gradients to 1e-5 of
their largest entry, in float32 on a CPU. The paper mode gives the 2023 computation's losses and steps.

    python -m benchmarks.parity

Printed is the largest error per family and quantity: of an embedding, a logit, a loss or a parameter as it
is, of a gradient relative to its largest entry, each layer's parameters one by one. The golden numbers are
committed; torch computed them in float64: tests/focusclip_jax/golden/make_weights_golden.py and
make_paper_golden.py.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from focusclip_jax import losses, optimizer, sharding, state, step
from focusclip_jax.config import default
from focusclip_jax.models.focusclip import Architecture, unit_pixels
from focusclip_jax.models.text import TextShape, TextTower
from focusclip_jax.models.transformer import Shape
from focusclip_jax.models.vit import ImageShape, ImageTower
from focusclip_jax.weights.load import load_clip, load_image_tower, load_text_tower

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "focusclip_jax" / "golden"
# Of the golden files.
ADDED_TO_CLIP = {"alpha_parameter": np.float32(0.3), "logit_bias": np.float32(0)}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

IMAGE = Shape(depth=2, width=16, heads=2, mlp=32)
TEXT = Shape(depth=2, width=12, heads=3, mlp=24)


def clip_architecture(activation: str) -> Architecture:
    variant = {"norm_epsilon": 1e-5, "activation": activation}
    return Architecture(
        ImageShape(
            dataclasses.replace(IMAGE, **variant),
            image_size=12,
            patch_size=4,
            norm_embeddings=True,
            patch_bias=False,
            projection_bias=False,
        ),
        TextShape(
            dataclasses.replace(TEXT, causal=True, **variant),
            vocabulary=40,
            context=12,
            pool="end",
            projection_bias=False,
        ),
        embedding=8,
        pixel_mean=MEAN,
        pixel_std=STD,
    )


def tower_architecture(vit_epsilon: float) -> Architecture:
    """A ViT and a BERT."""
    return Architecture(
        ImageShape(dataclasses.replace(IMAGE, norm_epsilon=vit_epsilon), image_size=12, patch_size=4),
        TextShape(dataclasses.replace(TEXT, norm="post", norm_epsilon=1e-12), vocabulary=40, context=12),
        embedding=8,
        pixel_mean=MEAN,
        pixel_std=STD,
    )


PAPER = Architecture(
    ImageShape(Shape(depth=2, width=8, heads=2, mlp=16), image_size=8, patch_size=4),
    TextShape(
        Shape(depth=2, width=6, heads=3, mlp=12, norm="post", norm_epsilon=1e-12),
        vocabulary=20,
        context=8,
        pool="mean_padded",
    ),
    embedding=4,
    alpha="unbounded",
    loss="ntxent",
)

Errors = dict[str, float]


def compiled(function: Callable, **options) -> Callable:
    """`jax.jit` that compiles in half the time to slower code: these models are tiny."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)


def clip(name: str, architecture: Architecture) -> Errors:
    """A whole CLIP: embeddings, the highlighted view's too, logits, CLIP's loss and its gradient."""
    folder = GOLDEN / name
    expected = read_expected(folder)
    params = shapes_of(architecture)
    weights = load_clip(params, folder, architecture)
    gradients, values = clip_gradients(weights, expected, state.graph_of(architecture))
    golden = load_clip(params, folder / "gradients.safetensors", architecture)
    return {
        "image embeddings": _largest(values, expected, "image"),
        "highlighted embeddings": _largest(values, expected, "focus"),
        "text embeddings": _largest(values, expected, "text"),
        "logits": _largest(values, expected, "logits"),
        "loss": _largest(values, expected, "loss"),
        "gradients": _relative(gradients, golden),
    }


def clip_loss(weights, inputs, graph: nnx.GraphDef):
    model = nnx.merge(graph, weights | ADDED_TO_CLIP)
    pixels = unit_pixels(inputs["images"])
    image = model.encode_image(pixels)
    text = model.encode_text(inputs["tokens"], inputs["lengths"])
    ids = jnp.arange(len(pixels))
    loss = losses.infonce(image, text, ids, ids, model.log_scale[...])
    focus = model.encode_focus(pixels, inputs["heatmaps"])
    logits = jnp.exp(model.log_scale[...]) * image @ text.T
    return loss, {"image": image, "focus": focus, "text": text, "logits": logits, "loss": loss}


# Once for all families of one architecture.
clip_gradients = compiled(jax.grad(clip_loss, has_aux=True), static_argnums=2)


def vit(name: str, architecture: Architecture) -> Errors:
    """The class token's embedding, before any projection, and the gradient of a linear function of it."""
    folder = GOLDEN / name
    expected = read_expected(folder)
    shapes = shapes_of(architecture)["image"]
    weights = load_image_tower(shapes, folder, architecture)
    pixels = ((expected["images"] / 255 - MEAN) / STD).astype(np.float32)
    width = architecture.image.transformer.width
    graph = _graph(lambda: ImageTower(architecture.image, embedding=width, rngs=nnx.Rngs(0)))

    def computed(weights):
        embedding = nnx.merge(graph, {**weights, **_no_projection(width)})(pixels)
        return (embedding * expected["direction"]).sum(), {"embedding": embedding}

    gradients, values = compiled(jax.grad(computed, has_aux=True))(weights)
    golden = load_image_tower(shapes, folder / "gradients.safetensors", architecture)
    return {
        "image embeddings": _largest(values, expected, "embedding"),
        "gradients": _relative(gradients, golden),
    }


def bert(name: str, architecture: Architecture) -> Errors:
    """The means over a text's tokens and over its padding too, and the gradient of a linear function."""
    folder = GOLDEN / name
    expected = read_expected(folder)
    shapes = shapes_of(architecture)["text"]
    weights = load_text_tower(shapes, folder, architecture)
    width = architecture.text.transformer.width

    def mean(weights, pool):
        shape = dataclasses.replace(architecture.text, pool=pool)
        graph = _graph(lambda: TextTower(shape, embedding=width, rngs=nnx.Rngs(0)))
        tower = nnx.merge(graph, {**weights, **_no_projection(width)})
        return tower(expected["tokens"], expected["lengths"], jnp.float32)

    def computed(weights):
        values = {"mean": mean(weights, "mean"), "mean_padded": mean(weights, "mean_padded")}
        return (values["mean"] * expected["direction"]).sum(), values

    gradients, values = compiled(jax.grad(computed, has_aux=True))(weights)
    # Our positions hold BERT's token type 0 too. Its gradient is their sum; reading adds it to each.
    positions = gradients["position_embedding"]
    gradients["position_embedding"] = positions + positions.sum(0)
    golden = load_text_tower(shapes, folder / "gradients.safetensors", architecture)
    return {
        "text embeddings": _largest(values, expected, "mean"),
        "text embeddings, padding included": _largest(values, expected, "mean_padded"),
        "gradients": _relative(gradients, golden),
    }


def paper2023(name: str, architecture: Architecture) -> Errors:
    """The 2023 computation by the training step: losses, the first gradient, and the parameters after SGD."""
    folder = GOLDEN / name
    expected = read_expected(folder)
    config = default()
    config.loss.update(kind="ntxent", image_text=1.0, focus_text=1.0, focus_image=1.0)
    config.optimizer.update(name="sgd", learning_rate=5e-4, schedule="constant", weight_decay=0.0)
    mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
    update = optimizer.make(config.optimizer, 2)
    abstract = state.abstract(architecture, update, mesh)
    train_step = step.make_train_step(state.graph_of(architecture), update, abstract, mesh, config)
    batch = step.put(paper_batch(expected), mesh)
    params = paper_values(folder, expected, "start", architecture) | UNUSED_BY_PAPER
    current = state.TrainState(np.int32(0), params, update.init(params))
    current = jax.device_put(current, jax.tree.map(lambda leaf: leaf.sharding, abstract))
    errors = {}
    for stage in ("one", "two"):
        current, metrics = train_step(current, batch)
        for term in losses.TERMS:
            error = abs(float(metrics[term]) - float(expected[f"{stage}/loss/{term}"]))
            errors[f"loss {term}, step {stage}"] = error
        if stage == "one":
            # The momentum begins as the gradient, clipped to a norm of one.
            momentum, norm = optax.tree.get(current.optimizer, "trace"), metrics["gradient_norm"]
            golden = paper_values(folder, expected, "gradients", architecture)
            gradients = optax.tree.scale(norm, {part: momentum[part] for part in golden})
            # α's is one number, the sum over all pixels of products of either sign: what is left is small,
            # and rounding is a larger part of it.
            alpha = [{"alpha_parameter": tree.pop("alpha_parameter")} for tree in (gradients, golden)]
            errors["gradient of α"] = _relative(*alpha)
            errors["gradients"] = _relative(gradients, golden)
        golden = paper_values(folder, expected, stage, architecture)
        pairs = _pairs({part: current.params[part] for part in golden}, golden)
        largest = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
        errors[f"parameters after step {stage}"] = largest
    return errors


# NT-Xent learns neither.
UNUSED_BY_PAPER = {"log_scale": np.float32(0), "logit_bias": np.float32(0)}


def paper_batch(expected: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One caption per image."""
    return {
        "image": expected["images"],
        "heatmap": expected["heatmaps"],
        "tokens": expected["tokens"][:, None],
        "lengths": expected["lengths"][:, None],
        "image_id": np.arange(len(expected["images"]), dtype=np.int32),
    }


def paper_values(folder: pathlib.Path, expected, stage: str, architecture: Architecture):
    """All that the 2023 model has, at one stage: parameters or gradients."""
    params = shapes_of(architecture)
    values = {
        "image": load_image_tower(params["image"], folder / f"{stage}_image.safetensors", architecture),
        "text": load_text_tower(params["text"], folder / f"{stage}_text.safetensors", architecture),
        "alpha_parameter": expected[f"{stage}/alpha"],
    }
    for tower in ("image", "text"):
        values[tower]["projection_kernel"] = expected[f"{stage}/{tower}_projection.weight"].T
        values[tower]["projection_bias"] = expected[f"{stage}/{tower}_projection.bias"]
    return values


# What is compared: the folder of the golden files, how, and the model it is in our terms.
FAMILIES: dict[str, tuple[Callable[[str, Architecture], Errors], Architecture]] = {
    "hf_clip_quick_gelu": (clip, clip_architecture("quick_gelu")),
    "hf_clip_gelu": (clip, clip_architecture("gelu")),
    "open_clip": (clip, clip_architecture("quick_gelu")),
    "open_clip_text": (clip, clip_architecture("quick_gelu")),
    "timm_vit": (vit, tower_architecture(1e-6)),
    "hf_vit": (vit, tower_architecture(1e-12)),
    "hf_bert": (bert, tower_architecture(1e-6)),
    "paper2023": (paper2023, PAPER),
}


def errors(name: str) -> Errors:
    """The largest error of each quantity of a family."""
    compare, architecture = FAMILIES[name]
    return compare(name, architecture)


def read_expected(folder: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays)


def shapes_of(architecture: Architecture):
    """The shapes of its parameters."""
    return state.abstract_params(architecture, sharding.make_mesh(-1, 1))


def _graph(make: Callable[[], nnx.Module]) -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(make), nnx.Param)[0]


def _no_projection(width: int) -> dict[str, np.ndarray]:
    return {
        "projection_kernel": np.eye(width, dtype=np.float32),
        "projection_bias": np.zeros(width, np.float32),
    }


def _largest(values, expected, name: str) -> float:
    return float(np.abs(np.asarray(values[name]) - expected[name]).max())


def _relative(gradients, golden) -> float:
    """Of all parameters, each layer's by itself, the largest error in units of the largest entry."""
    worst = 0.0
    for ours, theirs in _pairs(gradients, golden):
        worst = max(worst, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    return worst


def _pairs(ours, theirs) -> list[tuple[np.ndarray, np.ndarray]]:
    """Leaf by leaf of two equal trees, the layers of a transformer one by one."""
    pairs = []
    leaves = jax.tree_util.tree_flatten_with_path(theirs)[0]
    for (path, golden), array in zip(leaves, jax.tree.leaves(ours), strict=True):
        array = np.asarray(array)
        layered = any(getattr(key, "key", None) == "blocks" for key in path)
        pairs += zip(array, golden, strict=True) if layered else [(array, golden)]
    return pairs


def main() -> None:
    print(f"{'family':20} {'quantity':36} largest error")
    for name in FAMILIES:
        for quantity, error in errors(name).items():
            print(f"{name:20} {quantity:36} {error:.1e}")


if __name__ == "__main__":
    main()

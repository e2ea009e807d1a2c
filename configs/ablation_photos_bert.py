"""Whether focus helps on photographs with a text tower that knows words: all-MiniLM-L6-v2, frozen.

    ./launch.sh ablate --config=configs/ablation_photos_bert.py --data-dir=DIR

The data are those of configs/ablation_photos.py. The weights must lie in weights/all-MiniLM-L6-v2; without
them the command says how to get them.
Hardware: one CPU core. Time: 25 trainings a seed, 3 to 4 minutes each.
The tower (22.7 million parameters) is not trained, only its projection: by arithmetic, training it would take
three times as long. The image tower starts from random weights, so accuracy is low here too, also on unseen
activities.
"""

import dataclasses

from configs.ablation_figures import KEEP_ALPHA
from configs.ablation_photos import get_grid as from_scratch

MINILM = "weights/all-MiniLM-L6-v2"
HUB = "sentence-transformers/all-MiniLM-L6-v2 --revision c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
GET = f".venv/bin/hf download {HUB}"
# As the shipped rules of config.optimizer, behind one that freezes all of the text tower but its projection.
RULES = (
    (r"^text/(?!projection)", 0.0, 0.0),
    (r"(kernel|position_embedding)$", 1.0, 1.0),
    (r"", 1.0, 0.0),
)


def get_grid():
    grid = from_scratch()
    config = grid.base
    config.text.tokenizer = f"{MINILM}/vocab.txt"
    config.text.how_to_get = f"{GET} vocab.txt --local-dir {MINILM}"
    config.text.vocabulary = 30_522
    config.text.context = 48
    config.text.buckets = (48,)
    config.weights.text = MINILM
    config.weights.how_to_get.text = f"{GET} model.safetensors config.json --local-dir {MINILM}"
    config.model.text.update(depth=6, width=384, heads=12, mlp=1536, norm="post", norm_epsilon=1e-12)
    config.optimizer.rules = RULES
    config.steps = 150
    config.checkpoint_every = 50
    methods = {
        name: dataclasses.replace(method, settings=_frozen(method.settings))
        for name, method in grid.methods.items()
    }
    return dataclasses.replace(grid, name="ablation_photos_bert", base=config, methods=methods)


def _frozen(settings):
    """A method's own rules would take the place of those that freeze the tower."""
    if "optimizer.rules" not in settings:
        return settings
    return settings | {"optimizer.rules": (KEEP_ALPHA[0], *RULES)}

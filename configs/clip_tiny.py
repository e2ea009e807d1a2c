"""The baseline of focusclip_tiny: the same data, towers and steps without the highlighted view.

    ./launch.sh --config=configs/clip_tiny.py

Hardware: 2 CPU cores, under 2 GB of memory. Time: about two thirds of focusclip_tiny's, whose image tower
sees every image twice. Metric: as focusclip_tiny; `./launch.sh report` sets the two runs side by side.
"""

from configs.focusclip_tiny import get_config as focusclip


def get_config():
    config = focusclip()
    config.name = "clip_tiny"
    config.loss.focus_text = 0.0
    return config

"""The baseline of focusclip_b16: CLIP, the same data, towers and steps without the highlighted view.

    ./launch.sh --config=configs/clip_b16.py

Hardware, memory and metric: as focusclip_b16. Time: about two thirds of its time, because the image tower
sees every image once instead of twice. Not yet run on this hardware.
"""

from configs.focusclip_b16 import get_config as focusclip


def get_config():
    config = focusclip()
    config.name = "clip_b16"
    config.loss.focus_text = 0.0
    return config

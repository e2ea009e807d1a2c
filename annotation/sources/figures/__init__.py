"""`figures`: procedural people with exact joints, so that everything can be tried without a download.

Synthetic, and labelled so in every record. Drawn by Pillow from three-dimensional articulated bodies:
activities.py says what they do, body.py poses and projects them, drawing.py and scenes.py paint, and
generator.py puts one image together from (parameters, index).
"""

from annotation.sources.figures.activities import ACTIVITIES, HELD_OUT, TRAINED, Activity
from annotation.sources.figures.generator import Figures, contact_sheet, generate

__all__ = ["ACTIVITIES", "HELD_OUT", "TRAINED", "Activity", "Figures", "contact_sheet", "generate"]

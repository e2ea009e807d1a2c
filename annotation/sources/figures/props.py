"""The two things people use, as capsules in three dimensions that belong to a body."""

from __future__ import annotations

import numpy as np

from annotation.sources.figures import body as b
from annotation.sources.figures.drawing import Color

CHAIR: Color = (120, 84, 56)
BALL: Color = (250, 250, 250)


def prop_capsules(prop: str, body: b.Body) -> tuple[np.ndarray, np.ndarray, float, Color]:
    """Start and end points (K, 3) in the body's coordinates, radius in body heights, colour; or K = 0."""
    if prop == "chair":
        return _chair(body)
    if prop == "ball":
        centre = _ball_centre(body)
        return centre, centre, 0.05, BALL
    return np.zeros((0, 3)), np.zeros((0, 3)), 0.0, CHAIR


def _chair(body: b.Body) -> tuple[np.ndarray, np.ndarray, float, Color]:
    """A seat under the hips, four legs down to the feet, and a back."""
    x, front, rear = 0.09, 0.14, -0.1
    seat = -0.08
    floor = float((body.points[[b.L_ANKLE, b.R_ANKLE]] @ body.upright)[:, 1].min()) - 0.02
    corners = [(-x, front), (x, front), (x, rear), (-x, rear)]
    starts = [(cx, seat, cz) for cx, cz in corners]
    ends = [(cx, floor, cz) for cx, cz in corners]
    for (ax, az), (cx, cz) in zip(corners, corners[1:] + corners[:1], strict=True):
        starts.append((ax, seat, az))
        ends.append((cx, seat, cz))
    for cx in (-x, x):
        starts.append((cx, seat, rear))
        ends.append((cx, seat + 0.3, rear - 0.02))
    starts.append((-x, seat + 0.28, rear - 0.02))
    ends.append((x, seat + 0.28, rear - 0.02))
    return np.array(starts) @ body.upright.T, np.array(ends) @ body.upright.T, 0.018, CHAIR


def _ball_centre(body: b.Body) -> np.ndarray:
    """In front of the higher foot: (1, 3)."""
    toe = max((b.L_TOE, b.R_TOE), key=lambda point: body.points[point, 1])
    return body.points[toe][None] + 0.1 * body.upright[:, 2] + 0.02 * body.upright[:, 1]

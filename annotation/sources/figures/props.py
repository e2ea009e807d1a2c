"""The two things people use, as thick strokes in three dimensions that belong to a body."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annotation.sources.figures import body as b


class Prop(NamedTuple):
    """Strokes from starts to ends, both (K, 3) in the body's coordinates; radius in body heights; colour."""

    starts: np.ndarray
    ends: np.ndarray
    radius: float
    color: tuple[int, int, int]


def nothing(body: b.Body) -> Prop:
    return Prop(np.zeros((0, 3)), np.zeros((0, 3)), 0.0, (0, 0, 0))


def ball(body: b.Body) -> Prop:
    """A white ball in front of the higher foot."""
    toe = max((b.L_TOE, b.R_TOE), key=lambda point: body.points[point, 1])
    centre = body.points[toe][None] + 0.1 * body.upright[:, 2] + 0.02 * body.upright[:, 1]
    return Prop(centre, centre, 0.05, (250, 250, 250))


def chair(body: b.Body) -> Prop:
    """A seat under the hips, four legs down to the feet, and a back."""
    half, front, rear, seat = 0.09, 0.14, -0.1, -0.08
    floor = float((body.points[[b.L_ANKLE, b.R_ANKLE]] @ body.upright)[:, 1].min()) - 0.02
    corners = [(-half, front), (half, front), (half, rear), (-half, rear)]
    legs = [((x, seat, z), (x, floor, z)) for x, z in corners]
    rim = [
        ((x0, seat, z0), (x1, seat, z1))
        for (x0, z0), (x1, z1) in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    top, tilted = seat + 0.29, rear - 0.02
    posts = [((x, seat, rear), (x, top, tilted)) for x in (-half, half)]
    rail = [((-half, top, tilted), (half, top, tilted))]
    starts, ends = np.array(legs + rim + posts + rail).transpose(1, 0, 2) @ body.upright.T
    return Prop(starts, ends, 0.018, (120, 84, 56))

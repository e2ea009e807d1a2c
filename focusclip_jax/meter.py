"""How fast the steps go and what they measured, without stopping the device."""

from __future__ import annotations

import contextlib
import time

import jax
import numpy as np


class Meter:
    """Means of the metrics since the last reading, and how fast the steps went."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._metrics: list[dict[str, jax.Array]] = []
        self._waited = 0.0
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def waiting(self):
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def add(self, metrics: dict[str, jax.Array]) -> None:
        self._metrics.append(metrics)

    def wait_for_step_before(self) -> None:
        """Keep one step running and one queued: enough for a busy device, few enough to stop promptly."""
        if len(self._metrics) > 1:
            jax.block_until_ready(self._metrics[-2])

    def read(self) -> dict[str, float]:
        """Waits for the device; then means over the steps added, and seconds per step."""
        fetched = jax.device_get(self._metrics)
        steps = len(fetched)
        seconds = time.perf_counter() - self._since
        values = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        speed = {
            "step_seconds": seconds / steps,
            "images_per_second": steps * self._batch_size / seconds,
            "data_wait": self._waited / seconds,
        }
        self._metrics, self._waited, self._since = [], 0.0, time.perf_counter()
        return values | speed

    def leave_out_pause(self) -> None:
        """Start the clock again after saving or evaluating, whose time is not the steps' time."""
        self._since = time.perf_counter()

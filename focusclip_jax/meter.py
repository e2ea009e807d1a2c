"""How fast the steps go and what they measured, without stopping the device."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from focusclip_jax import flops
from focusclip_jax.models.focusclip import Architecture

# What a row holds of clock and machine: two runs that compute the same differ in nothing else.
OF_MACHINE = frozenset(
    {
        "step_seconds",
        "images_per_second",
        "images_per_second_per_chip",
        "data_wait",
        "teraflops_per_second_per_chip",
        "mfu",
        "device_memory_gib",
        "host_memory_gib",
    }
)
GIB = 2**30


class Meter:
    """Means of the metrics since the last reading, and how fast the steps went.

    devices: all of the run, of one kind.
    """

    def __init__(self, config: ConfigDict, architecture: Architecture, devices: Sequence[jax.Device]):
        self._config, self._architecture, self._devices = config, architecture, devices
        self._metrics: list[dict[str, jax.Array]] = []
        self._flops = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def add(self, metrics: dict[str, jax.Array], tokens: int) -> None:
        """One step more. tokens: T, the length that its texts were padded to."""
        self._metrics.append(metrics)
        self._flops += flops.of_step(self._architecture, self._config, tokens).model

    def wait_for_step_before(self) -> None:
        """Keep one step running and one queued: enough for a busy device, few enough to stop promptly."""
        if len(self._metrics) > 1:
            jax.block_until_ready(self._metrics[-2])

    def read(self) -> dict[str, float]:
        """Waits for the device; then means over the steps added, and their speed: see `OF_MACHINE`."""
        fetched = jax.device_get(self._metrics)
        steps = len(fetched)
        seconds = time.perf_counter() - self._since
        values = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        rate = steps * self._config.batch_size / seconds
        speed = {
            "step_seconds": seconds / steps,
            "images_per_second": rate,
            "images_per_second_per_chip": rate / len(self._devices),
            "data_wait": self._waited / seconds,
            **utilisation(self._flops / seconds / len(self._devices), self._devices[0].device_kind),
            **memory(self._devices),
        }
        self._metrics, self._flops, self._waited, self._since = [], 0, 0.0, time.perf_counter()
        return values | speed

    def leave_out_pause(self) -> None:
        """Start the clock again after saving or evaluating, whose time is not the steps' time."""
        self._since = time.perf_counter()


def utilisation(rate: float, device_kind: str) -> dict[str, float]:
    """rate: model operations per second and chip. With `mfu` where `flops` knows the chip's peak."""
    chip = flops.chip(device_kind)
    share = {} if chip is None else {"mfu": rate / chip.flops}
    return {"teraflops_per_second_per_chip": rate / 1e12, **share}


def memory(devices: Sequence[jax.Device]) -> dict[str, float]:
    """The most that was in use since the start, GiB: on the fullest device of this process, where devices
    say; else, as on CPU, by this process on its host."""
    mine = [device for device in devices if device.process_index == jax.process_index()]
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in mine]
    if max(peaks):
        return {"device_memory_gib": max(peaks) / GIB}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"host_memory_gib": most * (1 if sys.platform == "darwin" else 1024) / GIB}

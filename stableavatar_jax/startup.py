"""Where the time until the first step goes: imports, weights, compiling, and the rest."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BEGUN = time.perf_counter()
"""When this module was imported, which commands do first."""

COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)  # fmt: skip
"""What JAX calls tracing, lowering, and compiling or reading from the cache."""


@dataclass
class Spent:
    """Seconds spent, and programs made, since this process began."""

    imports: float = 0.0
    weights: float = 0.0
    """Reading or drawing them, without compiling what draws them."""
    compiling: float = 0.0
    """Tracing, lowering, and compiling or reading from the cache."""
    programs: int = 0
    cached: int = 0
    """Programs among them that were read from the cache."""


SPENT = Spent()
_watched = False


def watch() -> None:
    """Count from here on what JAX spends on programs, and end the time for imports. To be called once JAX is there."""
    global _watched
    if _watched:
        return
    import jax

    outer: list[tuple[float, float]] = []

    def took(event: str, start_time: float, end_time: float, **_: Any) -> None:
        if event not in COMPILING:
            return
        SPENT.programs += event == COMPILING[-1]
        while outer and outer[-1][0] >= start_time:  # a function that is traced within another is told before it
            SPENT.compiling -= outer[-1][1] - outer.pop()[0]
        outer.append((start_time, end_time))
        SPENT.compiling += end_time - start_time

    def happened(event: str, **_: Any) -> None:
        SPENT.cached += event == "/jax/compilation_cache/cache_hits"

    jax.monitoring.register_event_time_span_listener(took)
    jax.monitoring.register_event_listener(happened)
    _watched, SPENT.imports = True, time.perf_counter() - BEGUN


@contextlib.contextmanager
def weights() -> Iterator[None]:
    """Count a stretch of time as reading weights, but for what is compiled in it."""
    start, compiled = time.perf_counter(), SPENT.compiling
    try:
        yield
    finally:
        SPENT.weights += time.perf_counter() - start - (SPENT.compiling - compiled)


def told() -> str:
    """The time until now in a line, for when the first step is done."""
    whole, s = time.perf_counter() - BEGUN, dataclasses.replace(SPENT)
    rest = whole - s.imports - s.weights - s.compiling
    return (
        f"first step after {whole:.1f} s: imports {s.imports:.1f}, weights {s.weights:.1f}, compiling "
        f"{s.compiling:.1f} ({s.programs} programs, {s.cached} of them from the cache), the rest {rest:.1f}"
    )

"""What a cell costs besides its forward, and what loading the extension costs.

    python -m benchmarks.cells

Medians on the demo model, in a shell without a browser: what a `%%trace` cell takes, less what the
same touches take by the Python API; the checks alone; `%load_ext` in a new process.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PROMPT = "The Eiffel Tower is in the city of"
BODY = """resid = layers[20].output
layers[22].mlp.output[:, -1] = 0
probs = logits[:, -1].softmax(-1)"""
LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
began = time.perf_counter()
shell.run_line_magic("load_ext", "nnsight_magic")
print((time.perf_counter() - began) * 1e3)
"""
REPEATS = 15


def milliseconds(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median over `repeats` runs, after two that warm up."""
    times = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times[2:])


def loading() -> float:
    runs = [subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
            for _ in range(5)]  # fmt: skip
    return statistics.median(float(run.stdout.split()[-1]) for run in runs)


def cell_and_api(shell: Any, model: Any) -> tuple[float, float]:
    """A whole cell with its text shown, and the same touches by the Python API."""
    import torch

    line = f'"{PROMPT}" --fresh'

    def by_cell() -> None:
        repr(shell.run_cell_magic("trace", line, BODY))

    def by_api() -> None:
        with model.trace(PROMPT, resume=False):
            resid = model.layers[20].output
            model.layers[22].mlp.output[:, -1] = 0
            logits = model.logits
            probs = logits[:, -1].softmax(-1)
        assert isinstance(resid, torch.Tensor)
        assert isinstance(probs, torch.Tensor)

    pairs = [(milliseconds(by_cell, 3), milliseconds(by_api, 3)) for _ in range(5)]
    return tuple(statistics.median(each) for each in zip(*pairs, strict=True))


def checking(model: Any) -> float:
    from nnsight_magic.language.read import read

    return milliseconds(lambda: read(BODY, model, {}, (), "<cell>", 2))


def main() -> None:
    print(f"%load_ext nnsight_magic             {loading():8.1f} ms")
    import torch
    from IPython.core.interactiveshell import InteractiveShell

    from nnsight_magic import LanguageModel

    torch.set_num_threads(2)
    shell = InteractiveShell.instance(colors="nocolor")
    shell.run_line_magic("load_ext", "nnsight_magic")
    model = shell.user_ns["model"] = LanguageModel("demo", dispatch=True)
    print(f"parse and checks of a cell          {checking(model):8.1f} ms")
    cell, api = cell_and_api(shell, model)
    print(f"the cell, shown as text             {cell:8.1f} ms")
    print(f"the same by the Python API          {api:8.1f} ms")
    print(f"added by the cell                   {cell - api:8.1f} ms")


if __name__ == "__main__":
    main()

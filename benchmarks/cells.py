"""What a cell costs besides its forward, and what loading the extension costs.

    python -m benchmarks.cells [--rounds N]

On the demo model, in a Jupyter kernel of its own: the CPU time of `%%trace` cells less that of the
same touches by the Python API, with the result as text and with the view that JupyterLab shows;
the checks alone. `%load_ext` is timed in new processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.timing import measure

PROMPT = "The Eiffel Tower is in the city of"
CELLS = {
    "reads a block": "resid = layers[20].output",
    "reads, writes, takes probabilities": """resid = layers[20].output
layers[22].mlp.output[:, -1] = 0
probs = logits[:, -1].softmax(-1)""",
}
FORMS = {"not shown": "--quiet", "as text": "--no-view", "as a view": ""}
LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
began = time.perf_counter()
shell.run_line_magic("load_ext", "nnsight_magic")
print((time.perf_counter() - began) * 1e3)
"""


def loading() -> float:
    """Milliseconds of `%load_ext` in a new process, the median of five."""
    runs = [subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
            for _ in range(5)]  # fmt: skip
    return statistics.median(float(run.stdout.split()[-1]) for run in runs)


def in_kernel(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds by cell and variant. To be called in a kernel."""
    import torch
    from IPython import get_ipython
    from IPython.display import display

    from nnsight_magic import LanguageModel
    from nnsight_magic.language.read import read

    torch.set_num_threads(1)  # the CPU time of several depends on how they meet
    shell = get_ipython()
    shell.run_line_magic("load_ext", "nnsight_magic")
    model = shell.user_ns["model"] = LanguageModel("demo", dispatch=True)

    def reads() -> None:
        with model.trace(PROMPT, resume=False):
            assert isinstance(model.layers[20].output, torch.Tensor)

    def writes() -> None:
        with model.trace(PROMPT, resume=False):
            assert isinstance(model.layers[20].output, torch.Tensor)
            model.layers[22].mlp.output[:, -1] = 0
            logits = model.logits
            assert isinstance(logits[:, -1].softmax(-1), torch.Tensor)

    def shown(options: str, body: str) -> None:
        display(shell.run_cell_magic("trace", f'"{PROMPT}" --fresh {options}', body))

    found = {}
    for (job, body), api in zip(CELLS.items(), (reads, writes), strict=True):
        variants: dict[str, Any] = {"Python API": api}
        for form, options in FORMS.items():
            variants[form] = lambda options=options, body=body: shown(options, body)
        # A view wants the predictions after every token, so each form has its own clean run.
        times: dict[str, float] = {}
        for form in FORMS:
            row = measure(job, {name: variants[name] for name in ("Python API", form)}, rounds)
            times["Python API"] = row.seconds["Python API"] * 1e3
            times[form] = (row.seconds[form] - row.seconds["Python API"]) * 1e3
        checks = measure(job, {"": lambda body=body: read(body, model, {}, (), "<cell>", 2)}, 40)
        found[job] = times | {"checks": checks.seconds[""] * 1e3}
    return found


def main() -> None:
    from jupyter_client.manager import start_new_kernel

    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=40)
    rounds = arguments.parse_args().rounds
    print(f"%load_ext nnsight_magic: {loading():.1f} ms\n")
    manager, client = start_new_kernel()
    try:
        code = f"import json, benchmarks.cells as c; found = json.dumps(c.in_kernel({rounds}))"
        reply = client.execute_interactive(
            code, user_expressions={"found": "found"}, output_hook=lambda message: None
        )["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["status"] != "ok":
        sys.exit("\n".join(reply["traceback"]))
    text = reply["user_expressions"]["found"]["data"]["text/plain"]
    print("| a cell that | Python API (ms) | checks | " + " | ".join(FORMS) + " |")
    print("|---" * (len(FORMS) + 3) + "|")
    for job, times in json.loads(text[1:-1]).items():
        added = (f"+{times[form]:.1f}" for form in FORMS)
        print(f"| {job} | {times['Python API']:.1f} | {times['checks']:.2f} | "
              + " | ".join(added) + " |")  # fmt: skip


if __name__ == "__main__":
    main()

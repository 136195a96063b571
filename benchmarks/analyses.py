"""Analyses of the demo model beside loops of hooks and TransformerLens: CPU seconds, in turn.

    python -m benchmarks.analyses [--threads N] [--points N] [--attention] [--attribution]

A loop's time is that of some of its points, spread over all blocks, times their number; the
analyses run whole. All must agree on the points that both ran. `--attention` prints what the
patterns of all blocks take, and no more; `--attribution` what gradients do: nodes, edges, and the
memory of a long prompt's graph.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from benchmarks.resident import growth
from nnsight_magic import LanguageModel, analyses

CLEAN = "The Eiffel Tower is in the city of"
CORRUPT = "The Colosseum is in the city of"
LONG = (CLEAN + " Paris, and the", CORRUPT + " Rome, and the")
PARIS, ROME = " Paris", " Rome"
NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"  # what TransformerLens knows the demo model as
Points = list[tuple[int, int]]


class Models:
    """One set of weights, as three libraries have it."""

    def __init__(self) -> None:
        self.ours = LanguageModel("demo", dispatch=True)
        self.hf = self.ours.module
        self.lens = TransformerBridge.boot_transformers(
            NAME, hf_model=copy.deepcopy(self.hf), tokenizer=self.ours.tokenizer, device="cpu"
        )
        self.answers = [self.ours.tokenizer.encode(each)[0] for each in (PARIS, ROME)]

    def ids(self, prompt: str) -> torch.Tensor:
        return self.ours.tokenizer(prompt, return_tensors="pt")["input_ids"]

    def difference(self, logits: torch.Tensor) -> float:
        paris, rome = self.answers
        return float(logits[0, -1, paris] - logits[0, -1, rome])


@dataclass
class Job:
    """One analysis, and the same by a loop: `hook` changes one point of a value in place."""

    name: str
    points: Points
    whole: Callable[[], Any]
    module: Callable[[int], tuple[torch.nn.Module, bool]]  # of a block; whether its input is meant
    lens: str  # the name of TransformerLens' hook
    change: Callable[[torch.Tensor, int, int], None]
    ids: torch.Tensor


@torch.no_grad()
def by_hooks(models: Models, job: Job, points: Points) -> list[float]:
    """A plain forward with one hand-written hook for each point."""
    found = []
    for block, at in points:
        module, before = job.module(block)

        def hook(_: Any, args: Any, out: Any = None, block: int = block, at: int = at) -> Any:
            value = (args[0] if out is None else out).clone()
            job.change(value, block, at)
            return (value,) if out is None else value

        add = module.register_forward_pre_hook if before else module.register_forward_hook
        with add(hook):
            logits = models.hf(job.ids, use_cache=False, logits_to_keep=1).logits
        found.append(models.difference(logits))
    return found


@torch.no_grad()
def by_lens(models: Models, job: Job, points: Points) -> list[float]:
    """A run with hooks of TransformerLens for each point."""
    found = []
    for block, at in points:

        def hook(value: torch.Tensor, hook: Any, block: int = block, at: int = at) -> torch.Tensor:
            job.change(value, block, at)
            return value

        logits = models.lens.run_with_hooks(
            job.ids, fwd_hooks=[(f"blocks.{block}.{job.lens}", hook)]
        )
        found.append(models.difference(logits))
    return found


def residual(models: Models, clean: str, corrupt: str) -> Job:
    """The residual stream of every block and position."""
    ids = models.ids(corrupt)
    tokens = ids.shape[1]
    with models.ours.trace(models.ids(clean)[:, :tokens]):
        there = [block.output.value for block in models.ours.layers]

    def change(value: torch.Tensor, block: int, position: int) -> None:
        value[:, position] = there[block][:, position]

    def whole() -> Any:
        source = models.ids(clean)[:, :tokens]
        return analyses.patch(models.ours, source, ids, PARIS, ROME, progress=False)

    name = f"residual patches, 30 blocks × {tokens} positions"
    points = list(product(range(30), range(tokens)))
    layers = models.hf.model.layers
    return Job(name, points, whole, lambda k: (layers[k], False), "hook_out", change, ids)


def heads(models: Models) -> Job:
    """Each head taken out, at all positions."""
    size = models.hf.config.hidden_size // models.hf.config.num_attention_heads

    def change(value: torch.Tensor, block: int, head: int) -> None:
        if value.ndim == 4:
            value[:, :, head] = 0
        else:
            value[..., head * size : (head + 1) * size] = 0

    def whole() -> Any:
        return analyses.ablate(models.ours, CLEAN, PARIS, ROME, progress=False)

    layers, points = models.hf.model.layers, list(product(range(30), range(9)))
    return Job(
        "head ablations, 30 blocks × 9 heads",
        points,
        whole,
        lambda k: (layers[k].self_attn.o_proj, True),
        "attn.hook_z",
        change,
        models.ids(CLEAN),
    )


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    found = run()
    return time.process_time() - began, found


def row(models: Models, job: Job, count: int) -> str:
    """A line of the table."""
    some = job.points[:: max(1, len(job.points) // count)]
    share = len(job.points) / len(some)
    job.whole()  # warm
    ours, result = seconds(job.whole)
    cells = [f"{ours:.1f}"]
    values = [float(result.values[block, at]) + result.attrs["baseline"] for block, at in some]
    for way in (by_hooks, by_lens):
        try:
            taken, found = seconds(lambda way=way: way(models, job, some))
        except (KeyError, RuntimeError, ValueError) as error:
            cells += [f"– ({type(error).__name__})"]
            continue
        apart = max(abs(a - b) for a, b in zip(values, found, strict=True))
        cells.append(f"{taken * share:.1f} ({apart:.0e} apart)")
    return f"| {job.name} | {' | '.join(cells)} |"


def patterns(models: Models, tokens: int) -> str:
    """A line of the table of attention: CPU seconds and memory, ours and the forward alone."""
    ids = torch.arange(1000, 1000 + tokens)[None]
    model, count = models.ours, models.hf.config.num_attention_heads
    model.resume.enabled = False

    @torch.no_grad()
    def plain() -> None:
        models.hf(ids, use_cache=False, logits_to_keep=1)

    def ours() -> None:
        analyses.attention(model, ids)

    forward, _ = min((seconds(plain) for _ in range(2)), key=lambda each: each[0])
    taken, _ = min((seconds(ours) for _ in range(2)), key=lambda each: each[0])
    grown, alone = growth(ours), growth(plain)
    model.resume.enabled = True
    block = 4 * count * tokens**2 / 1e6
    told = f"{grown:.0f} MB (the forward {alone:.0f} MB, one block {block:.0f} MB)"
    return f"| {tokens} tokens | {taken:.1f} | {forward:.1f} | {told} | {30 * block:,.0f} MB |"


def attributions(models: Models) -> list[str]:
    """Lines of the table of attribution: CPU seconds, and how many plain forwards they are."""
    model = models.ours
    source, target = models.ids(CLEAN), models.ids(CORRUPT)
    pair: Any = (model, source, target, PARIS, ROME)

    @torch.no_grad()
    def plain() -> None:
        models.hf(target, use_cache=False, logits_to_keep=1)

    jobs: dict[str, Callable[[], Any]] = {
        "all heads": lambda: analyses.attribute(*pair, site="heads", check=0),
        "residual stream, integrated gradients": lambda: analyses.attribute(
            *pair, method="ig", check=0
        ),
        "edges, 301 × 481": lambda: analyses.attribute_edges(*pair, check=0),
    }
    forward = min(seconds(plain)[0] for _ in range(7))
    lines = []
    for name, run in jobs.items():
        run()  # warm
        taken = min(seconds(run)[0] for _ in range(4))
        lines.append(f"| {name} | {taken:.2f} | {taken / forward:.0f} |")
    long = torch.arange(1000, 1500)[None]
    grown = growth(
        lambda: analyses.attribute(model, long + 1, long, PARIS, ROME, site="heads", check=0)
    )
    return [*lines, f"| all heads, 500 tokens: at most {grown:.0f} MB more | | |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--points", type=int, default=45, help="of a loop that are really run")
    parser.add_argument("--attention", action="store_true", help="patterns alone")
    parser.add_argument("--attribution", action="store_true", help="gradients alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = Models()
    if options.attribution:
        print("| attribution, 9 tokens | CPU (s) | plain forwards |\n|---|---|---|")
        print("\n".join(attributions(models)))
        return
    print(
        "| patterns of all blocks | CPU (s) | forward alone (s) | memory at most | all patterns |"
    )
    print("|---|---|---|---|---|")
    for tokens in (500, 2000):
        print(patterns(models, tokens), flush=True)
    if options.attention:
        return
    print("\n| job | nnsight_magic (s) | a loop of hooks (s) | TransformerLens (s) |")
    print("|---|---|---|---|")
    for job in (residual(models, CLEAN, CORRUPT), residual(models, *LONG), heads(models)):
        print(row(models, job, options.points), flush=True)


if __name__ == "__main__":
    main()

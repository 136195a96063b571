"""Activation patching of every block and position of the demo model: CPU time of five ways.

    python -m benchmarks.patching [--blocks N]

The residual stream of one prompt is patched into another, at each block and each of 12 positions,
and the logit of one token is read at the last position. All ways must agree.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import nnsight
import torch

from benchmarks.engine import DEMO, Subject
from nnsight_magic import LanguageModel

CLEAN = "The Eiffel Tower is in the city of Paris, and the"
CORRUPT = "The Colosseum is in the city of Rome, and the"


class Patching:
    """The model, both prompts, and the block outputs of the first."""

    def __init__(self, blocks: int):
        self.ours = LanguageModel("demo", dispatch=True)
        self.hf, self.tokenizer = self.ours.module, self.ours.tokenizer
        subject = Subject(self.hf, self.tokenizer, "model.layers", DEMO)
        self.theirs, self.lens = subject.theirs, subject.lens
        self.ids = self.tokenizer(CORRUPT, return_tensors="pt")["input_ids"]
        clean_ids = self.tokenizer(CLEAN, return_tensors="pt")["input_ids"]
        self.tokens = min(self.ids.shape[1], clean_ids.shape[1])
        self.blocks = range(0, 30, 30 // blocks)
        self.target = self.tokenizer.encode(" city")[0]
        with self.ours.trace(clean_ids):
            self.clean = [block.output.value for block in self.ours.layers]

    @property
    def variants(self) -> list[tuple[int, int]]:
        return list(itertools.product(self.blocks, range(self.tokens)))

    def loop_of_hooks(self) -> list[float]:
        """A forward for each patch, with one hand-written hook."""
        results = []
        for block, position in self.variants:

            def patch(module, args, out, block=block, position=position):
                out = out.clone()
                out[:, position] = self.clean[block][:, position]
                return out

            handle = self.hf.model.layers[block].register_forward_hook(patch)
            with torch.no_grad():
                logits = self.hf(self.ids, use_cache=False, logits_to_keep=1).logits
            handle.remove()
            results.append(logits[0, -1, self.target].item())
        return results

    def batched_by_hand(self) -> list[float]:
        """All positions of a block as one batch, which starts at that block: written by hand."""
        llama, results = self.hf.model, []
        with torch.no_grad():
            hidden = llama.embed_tokens(self.ids)
            positions = torch.arange(self.ids.shape[1])[None]
            rotary = llama.rotary_emb(hidden, positions)
            for i, block in enumerate(llama.layers):
                hidden = block(hidden, position_embeddings=rotary, position_ids=positions)
                if i not in self.blocks:
                    continue
                rows = hidden.repeat(self.tokens, 1, 1)
                for position in range(self.tokens):
                    rows[position, position] = self.clean[i][0, position]
                for later in llama.layers[i + 1 :]:
                    rows = later(rows, position_embeddings=rotary, position_ids=positions)
                logits = self.hf.lm_head(llama.norm(rows[:, -1]))
                results += logits[:, self.target].tolist()
        return results

    def sweep(self) -> list[float]:
        """`model.sweep`."""

        def patch(block: int, position: int) -> float:
            self.ours.layers[block].output[:, position] = self.clean[block][:, position]
            return self.ours.logits[0, -1, self.target].item()

        return self.ours.sweep(self.ids, patch, self.variants, progress=False, logits_to_keep=1)

    def loop_of_traces(self) -> list[float]:
        """A trace for each patch, which starts at the patched block."""
        results = []
        for block, position in self.variants:
            with self.ours.trace(self.ids, logits_to_keep=1):
                self.ours.layers[block].output[:, position] = self.clean[block][:, position]
                results.append(self.ours.logits[0, -1, self.target].item())
        return results

    def nnsight_loop(self) -> list[float]:
        """A trace of nnsight for each patch."""
        results = []
        for block, position in self.variants:
            value = self.clean[block][:, position]
            with self.theirs.trace(self.ids, logits_to_keep=1):
                self.theirs.model.layers[block].output[:, position] = value
                logit = self.theirs.lm_head.output[0, -1, self.target].save()
            results.append(logit.item())
        return results

    def nnsight_invokes(self) -> list[float]:
        """All positions of a block as invokes of one trace of nnsight."""
        results = []
        for block in self.blocks:
            with self.theirs.trace(logits_to_keep=1) as tracer:
                logits = nnsight.save([])
                for position in range(self.tokens):
                    value = self.clean[block][:, position]
                    with tracer.invoke(self.ids):
                        self.theirs.model.layers[block].output[:, position] = value
                        logits.append(self.theirs.lm_head.output[0, -1, self.target])
            results += [logit.item() for logit in logits]
        return results

    def lens_loop(self) -> list[float]:
        """A run with hooks of TransformerLens for each patch, as its `patching` module does."""
        results = []
        for block, position in self.variants:

            def patch(out, hook, block=block, position=position):
                out[:, position] = self.clean[block][:, position]
                return out

            with torch.no_grad():
                hooks = [(f"blocks.{block}.hook_out", patch)]
                logits = self.lens.run_with_hooks(self.ids, fwd_hooks=hooks)
            results.append(logits[0, -1, self.target].item())
        return results


def measured(name: str, run: Callable[[], list[float]]) -> tuple[str, float, torch.Tensor]:
    began = time.process_time()
    results = run()
    return name, time.process_time() - began, torch.tensor(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    job = Patching(options.blocks)
    ways = {
        "batched by hand, shared prefixes": job.batched_by_hand,
        "nnsight_magic: model.sweep": job.sweep,
        "nnsight_magic: loop of traces": job.loop_of_traces,
        "loop of hand-written hooks": job.loop_of_hooks,
        "nnsight: batched invokes": job.nnsight_invokes,
        "nnsight: loop of traces": job.nnsight_loop,
        "TransformerLens: loop of runs": job.lens_loop,
    }
    rows = [
        measured(name, way)
        for name, way in ways.items()
        if not options.only or any(word in name for word in options.only)
    ]
    base = rows[0]
    print(f"{len(job.variants)} patches: {len(job.blocks)} blocks × {job.tokens} positions\n")
    print("| way | CPU (s) | to the batched loop | largest difference |\n|---|---|---|---|")
    for name, seconds, results in rows:
        difference = (results - base[2]).abs().max().item()
        print(f"| {name} | {seconds:.2f} | {seconds / base[1]:.2f} | {difference:.1e} |")


if __name__ == "__main__":
    main()

"""What looking inside costs: plain forward, hand-written hooks, this library, the others.

    python -m benchmarks.engine [--rounds N] [--tiny | --demo]

CPU time, one process, variants in turn. `resume` is off unless a row says otherwise, so that
every forward is a real one. TransformerLens puts modules of its own into the model that it is
given, so it has a copy, and only of the demo model, whose name it knows.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import cached_property

import nnsight
import torch

from benchmarks.timing import Row, measure, table
from nnsight_magic import LanguageModel

PROMPT = "The Eiffel Tower is in the city of Paris, and the"
PROMPTS = [" ".join(PROMPT.split()[: 4 + i % 8]) for i in range(16)]
NEW_TOKENS = 20
DEMO = "HuggingFaceTB/SmolLM2-135M-Instruct"  # what TransformerLens knows the demo model as


Variants = dict[str, Callable[[], object]]


class Subject:
    """One transformers model, wrapped both ways."""

    def __init__(self, hf, tokenizer, blocks: str, name: str | None = None):
        self.hf, self.tokenizer = hf, tokenizer
        self.ours = LanguageModel(hf, tokenizer)
        self.theirs = nnsight.LanguageModel(hf, tokenizer=tokenizer)
        self.ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
        self.path, self.name = blocks, name
        torch.manual_seed(0)
        self.direction = 0.05 * torch.randn(hf.config.hidden_size)

    @cached_property
    def lens(self):
        """TransformerLens' bridge to a copy of the model."""
        from transformer_lens.model_bridge import TransformerBridge

        return TransformerBridge.boot_transformers(
            self.name, hf_model=copy.deepcopy(self.hf), tokenizer=self.tokenizer, device="cpu"
        )

    def with_lens(self, variants: Variants, run: Callable[[], object]) -> Variants:
        """`variants` and what TransformerLens does, if it knows the model."""
        return variants | ({"TransformerLens": torch.no_grad()(run)} if self.name else {})

    @cached_property
    def batch(self) -> dict[str, torch.Tensor]:
        """16 prompts of different lengths, padded on the left."""
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        encoded = self.tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left")
        mask = encoded["attention_mask"]
        return dict(encoded) | {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}

    @property
    def blocks(self) -> list[torch.nn.Module]:
        return list(self.hf.get_submodule(self.path))

    def their(self, index: int):
        handle = self.theirs
        for part in self.path.split("."):
            handle = getattr(handle, part)
        return handle[index]

    def forward(self) -> None:
        with torch.no_grad():
            self.hf(self.ids, use_cache=False)

    def generated(self) -> None:
        ids = self.ids
        self.hf.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False
        )


def hooking(modules, change, run: Callable[[], None]) -> Callable[[], None]:
    """A run with hand-written hooks, put on and taken off as one would."""

    def once() -> None:
        handles = [m.register_forward_hook(lambda m, a, out: change(out)) for m in modules]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()

    return once


def save_one(s: Subject, index: int) -> Variants:
    kept: list = []

    def ours():
        with s.ours.trace(s.ids, full=True, resume=False):
            s.ours.layers[index].output.save()

    def theirs():
        with s.theirs.trace(s.ids):
            h = s.their(index).output.save()
        return h  # noqa: RET504  (nnsight cannot return out of a block)

    hooks = hooking([s.blocks[index]], lambda out: kept.append(out), s.forward)
    variants = {
        "plain": s.forward,
        "hand-written hook": hooks,
        "nnsight_magic": ours,
        "nnsight": theirs,
    }
    return s.with_lens(
        variants, lambda: s.lens.run_with_cache(s.ids, names_filter=f"blocks.{index}.hook_out")
    )


def save_all(s: Subject) -> Variants:
    def hooks():
        kept: list = []
        hooking(s.blocks, lambda out: kept.append(out), s.forward)()

    def ours():
        with s.ours.trace(s.ids, full=True, resume=False):
            return [block.output.save() for block in s.ours.layers]

    def theirs():
        with s.theirs.trace(s.ids):
            kept = nnsight.save([s.their(i).output for i in range(len(s.blocks))])
        return kept  # noqa: RET504

    variants = {
        "plain": s.forward,
        "hand-written hook": hooks,
        "nnsight_magic": ours,
        "nnsight": theirs,
    }
    names = [f"blocks.{i}.hook_out" for i in range(len(s.blocks))]
    return s.with_lens(variants, lambda: s.lens.run_with_cache(s.ids, names_filter=names))


def zero_mlp(s: Subject, index: int) -> Variants:
    def ours():
        with s.ours.trace(s.ids, full=True, resume=False):
            s.ours.layers[index].mlp.output = 0

    def theirs():
        with s.theirs.trace(s.ids):
            s.their(index).mlp.output[:] = 0

    hooks = hooking([s.blocks[index].mlp], torch.zeros_like, s.forward)
    variants = {
        "plain": s.forward,
        "hand-written hook": hooks,
        "nnsight_magic": ours,
        "nnsight": theirs,
    }
    zero = (f"blocks.{index}.mlp.hook_out", lambda out, hook: torch.zeros_like(out))
    return s.with_lens(variants, lambda: s.lens.run_with_hooks(s.ids, fwd_hooks=[zero]))


def generate(s: Subject) -> Variants:
    def hooks():
        kept: list = []
        hooking([s.blocks[-1]], lambda out: kept.append(out), s.generated)()

    def ours():
        with s.ours.generate(s.ids, max_new_tokens=NEW_TOKENS, do_sample=False) as tracer:
            return [s.ours.layers[-1].output.save() for _ in tracer.steps]

    def theirs():
        with s.theirs.generate(s.ids, max_new_tokens=NEW_TOKENS, do_sample=False) as tracer:
            kept = nnsight.save([])
            for _ in tracer.iter[:]:
                kept.append(s.their(-1).output)
        return kept

    return {
        "plain": s.generated,
        "hand-written hook": hooks,
        "nnsight_magic": ours,
        "nnsight": theirs,
    }


def steer(s: Subject, index: int) -> Variants:
    """A direction added to the residual stream at every step and position."""

    def ours():
        with s.ours.generate(s.ids, max_new_tokens=NEW_TOKENS, do_sample=False) as tracer:
            for _ in tracer.steps:
                s.ours.layers[index].output += s.direction

    def edited():
        with s.ours.edit(inplace=True) as edit:
            s.ours.layers[index].output += s.direction
        s.ours.generate(s.ids, max_new_tokens=NEW_TOKENS, do_sample=False).sequences  # noqa: B018
        edit.remove()

    def theirs():
        with s.theirs.generate(s.ids, max_new_tokens=NEW_TOKENS, do_sample=False) as tracer:
            for _ in tracer.iter[:]:
                s.their(index).output[:] += s.direction

    return {
        "plain": s.generated,
        "hand-written hook": hooking([s.blocks[index]], lambda out: out + s.direction, s.generated),
        "nnsight_magic": ours,
        "nnsight_magic, edit": edited,
        "nnsight": theirs,
    }


def many(s: Subject, index: int) -> Variants:
    """Sixteen prompts of different lengths in one forward."""

    def plain():
        with torch.no_grad():
            s.hf(**s.batch, use_cache=False)

    def ours():
        with s.ours.trace(s.batch, full=True, resume=False):
            s.ours.layers[index].output.save()

    def theirs():
        with s.theirs.trace(s.batch):
            h = s.their(index).output.save()
        return h  # noqa: RET504

    kept: list = []
    variants = {
        "plain": plain,
        "hand-written hook": hooking([s.blocks[index]], lambda out: kept.append(out), plain),
        "nnsight_magic": ours,
        "nnsight": theirs,
    }
    name = f"blocks.{index}.hook_out"
    return s.with_lens(variants, lambda: s.lens.run_with_cache(**lens_batch(s), names_filter=name))


def lens_batch(s: Subject) -> dict[str, torch.Tensor]:
    return {"input": s.batch["input_ids"], "attention_mask": s.batch["attention_mask"]}


def early(s: Subject, index: int) -> Variants:
    def hooks():
        class Enough(Exception):
            pass

        def stop(out):
            raise Enough

        try:
            hooking([s.blocks[index]], stop, s.forward)()
        except Enough:
            pass

    def ours():
        with s.ours.trace(s.ids, resume=False):
            s.ours.layers[index].output.save()

    def theirs():
        with s.theirs.trace(s.ids) as tracer:
            h = s.their(index).output.save()
            tracer.stop()
        return h

    variants = {
        "plain": s.forward,
        "hand-written hook": hooks,
        "nnsight_magic": ours,
        "nnsight": theirs,
    }

    def only():
        name = f"blocks.{index}.hook_out"
        return s.lens.run_with_cache(s.ids, names_filter=name, stop_at_layer=index + 1)

    return s.with_lens(variants, only)


def rerun(s: Subject, index: int) -> Variants:
    """A cell that is run again: the first touch is behind blocks that are known."""

    def ours(**kwargs):
        with s.ours.trace(s.ids, full=True, **kwargs):
            s.ours.layers[index].output[:, -1] *= 0.5

    return {
        "plain": s.forward,
        "nnsight_magic": ours,
        "nnsight_magic, last logits": lambda: ours(logits_to_keep=1),
    }


def jobs(s: Subject, rounds: int) -> list[Row]:
    count = len(s.blocks)
    middle, fifth, late = count // 2, count // 6, count * 2 // 3
    return [
        measure(f"save block {middle}", save_one(s, middle), rounds),
        measure("save all blocks", save_all(s), rounds),
        measure(f"zero the MLP of block {middle}", zero_mlp(s, middle), rounds),
        measure(
            f"generate {NEW_TOKENS} tokens, save the last block at each",
            generate(s),
            rounds // 5 + 1,
        ),
        measure(
            f"generate {NEW_TOKENS} tokens, steered at each", steer(s, middle), rounds // 5 + 1
        ),
        measure(f"save block {middle} for {len(PROMPTS)} prompts", many(s, middle), rounds // 2),
        measure(f"save block {fifth} of {count} only", early(s, fifth), rounds),
        measure(f"again, first touch at block {late} of {count}", rerun(s, late), rounds),
    ]


def tiny() -> Subject:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = LanguageModel("demo").tokenizer
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=12, n_embd=64, n_head=4, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0
    )
    hf = GPT2LMHeadModel(config).eval()
    hf.generation_config.pad_token_id = 0
    return Subject(hf, tokenizer, "transformer.h")


def demo() -> Subject:
    model = LanguageModel("demo", dispatch=True)
    return Subject(model.module, model.tokenizer, "model.layers", DEMO)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    both = options.tiny == options.demo
    if options.tiny or both:
        print(f"\n## 12-block GPT-2, hidden 64 ({options.threads} thread)\n")
        print(table(jobs(tiny(), options.rounds * 8), "plain"), flush=True)
    if options.demo or both:
        print(f"\n## Demo model, 30 blocks ({options.threads} thread)\n")
        print(table(jobs(demo(), options.rounds), "plain"), flush=True)


if __name__ == "__main__":
    main()

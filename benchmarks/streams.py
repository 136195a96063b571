"""Streams of activations beside a loop of hooks with the same batches, and their peak memory.

    python -m benchmarks.streams [--rounds N] [--texts N]

The loop is given its batches ready made, ends each forward behind the last block that it wants,
and writes the same files. Memory is the process's own at its highest, with ten times the texts.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.resident import growth
from benchmarks.timing import measure, table
from nnsight_magic import LanguageModel, analyses
from nnsight_magic.analyses.streaming import BATCH_TOKENS
from nnsight_magic.analyses.text_windows import batches, tokenized, windows
from tests import tiny

BLOCKS = (10, 20)
WORDS = " ".join(tiny.SENTENCES).split()


class Done(Exception):
    """The last block that is wanted has run."""


def some_texts(count: int) -> Iterator[str]:
    """Texts of 4 to 60 words, the same each time."""
    chance = random.Random(0)
    for _ in range(count):
        yield " ".join(chance.choices(WORDS, k=chance.randint(4, 60)))


def by_hooks(model: LanguageModel, texts: list[str], folder: Path) -> None:
    """The same rows by hooks on the blocks."""
    kept: dict[int, list[torch.Tensor]] = {block: [] for block in BLOCKS}
    ends = torch.zeros(0)

    def hook_for(block: int):
        def hook(module, args, output) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            kept[block].append(hidden[torch.arange(len(ends)), ends])
            if block == BLOCKS[-1]:
                raise Done

        return hook

    hooks = [model.module.model.layers[b].register_forward_hook(hook_for(b)) for b in BLOCKS]
    try:
        (window,) = windows(texts)
        ids, _ = tokenized(model, window, None)
        for batch in batches(ids, range(len(ids)), BATCH_TOKENS):
            ends = torch.tensor([len(each) - 1 for each in batch.ids])
            padded, mask = batch.padded()
            try:
                with torch.no_grad():
                    model.module(input_ids=padded, attention_mask=mask, use_cache=False)
            except Done:
                pass
    finally:
        for hook in hooks:
            hook.remove()
    save_file({str(block): torch.cat(rows) for block, rows in kept.items()}, folder / "rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = LanguageModel("demo", dispatch=True)
    texts = list(some_texts(arguments.texts))

    def hooks() -> None:
        folder = Path(tempfile.mkdtemp())
        by_hooks(model, texts, folder)
        shutil.rmtree(folder)

    def ours() -> None:
        folder = Path(tempfile.mkdtemp())
        analyses.stream(model, texts, folder, layers=BLOCKS, progress=False)
        shutil.rmtree(folder)

    row = measure(
        f"{len(texts)} texts, the last token behind blocks {BLOCKS[0]} and {BLOCKS[1]}",
        {"hooks": hooks, "stream": ours},
        arguments.rounds,
    )
    print(table([row], "hooks"))
    small = LanguageModel(tiny.llama().eval(), tiny.tokenizer())
    print("\n| texts | peak growth (MB) |\n|---|---|")
    for count in (200, 1_000, 10_000):
        folder = Path(tempfile.mkdtemp())
        peak = growth(
            lambda n=count, to=folder: analyses.stream(
                small, some_texts(n), to, at="all", max_tokens=64, progress=False
            )
        )
        size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        print(f"| {count:,} ({size:,.0f} MB of files) | {peak:,.0f} |", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""The names that a trace binds in its cell, each with the line that completion and `?` show."""

from __future__ import annotations

from nnsight_magic.language.named import NAMED_VALUES
from nnsight_magic.language.parts import PARTS

TRACE_NAMES: dict[str, str] = {
    "model": "the model being traced",
    "layers": "the decoder blocks: layers[i], layers[i].attn, layers[i].mlp",
    "embed": "the token embedding",
    "norm": "the last norm, before the unembedding",
    "unembed": "the unembedding (language-model head)",
    "logits": "final logits, (batch, tokens, vocabulary); can be assigned",
    "output": "what the model returns; can be assigned",
    "tokens": "token ids of the prompts, (batch, tokens)",
    "prompt": "the prompt's text; a list where there are several",
    "steps": "the steps of a generation, one forward each",
    "save": "save(x) keeps a plain copy; save(name=x) puts it into the notebook",
    "show": "show(x) displays a value and does not keep it",
}

# What a sweep cell has besides.
SWEEP_NAMES: dict[str, str] = {
    "grid": "grid(layer=layers, position=tokens): the points of a sweep; grid.points(…) for pairs",
    "heads": "the attention heads of a block, as an axis of a grid",
}
# What names of the trace are where they stand in `grid(…)`.
AXIS_NAMES: dict[str, str] = {
    "layers": "as an axis of a grid: the numbers of the blocks, or of some: layers[10:20]",
    "tokens": 'as an axis of a grid: the positions of the prompt, or of some: tokens["Tower":]',
    "prompt": "as an axis of a grid: the prompts, on each of which its points run",
}

# Trace names that stand for a tensor of the forward, so that assigning one writes it.
WRITABLE = frozenset({"logits", "output"})

# Attributes of a module handle that hand over or take a value of the forward.
VALUE_ATTRIBUTES: dict[str, str] = {
    "output": "what the module returned",
    "input": "the module's first argument",
    "inputs": "all arguments, as (args, kwargs)",
    "_output": "what the module returned, with its raw layout",
}

# Attributes of a module handle that are something else than a child module.
HANDLE_ATTRIBUTES: dict[str, str] = {
    **VALUE_ATTRIBUTES,
    "next": "the same module at the following generation step",
    "skip": "do not run the module; use this value as its output",
    "source": "the module's forward, with its operations named",
    "ops": "torch operations inside the module's forward",
    "heads": "attention heads: heads[i] is head i's slice",
    "pattern": "how much each token attends to each, (batch, heads, tokens, tokens)",
    **NAMED_VALUES,
    **PARTS,
    "path": "the module's dotted path",
    "name": "the module as it is written in a cell",
    "module": "the torch module itself",
    "children": "the modules inside, by name",
}

OF_ATTENTION = ("heads", "pattern")  # those that only an attention module has


def meaning(name: str, *, sweeps: bool = False) -> str | None:
    """What a name of the trace means, in one line; `None` for a name that it does not have.

    >>> meaning("heads", sweeps=True)
    'the attention heads of a block, as an axis of a grid'
    """
    if not sweeps:
        return TRACE_NAMES.get(name)
    told = {**TRACE_NAMES, **SWEEP_NAMES}.get(name)
    return told if name not in AXIS_NAMES else f"{told}; {AXIS_NAMES[name]}"


# The hidden name under which a running cell finds its trace. Dunder, so that it can collide with
# no notebook variable and never shows in completion.
SCOPE_NAME = "__trace__"


def bound_names(root_children=(), prompts=()) -> frozenset[str]:
    """Every name that a trace binds: the fixed ones, the root's children, the prompts' names."""
    return frozenset((*TRACE_NAMES, *root_children, *prompts))

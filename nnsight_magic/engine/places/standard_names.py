"""Standard names: where an architecture keeps its embedding, blocks, final norm and unembedding.

Every architecture has its own paths (`transformer.h`, `model.layers`, `gpt_neox.layers`).
`find_names` looks at the module tree itself, so that models this file has never heard of
get standard names too: the blocks are the `ModuleList` of equal modules that holds the most
parameters, the embedding and the unembedding are what the model itself says they are, and
the final norm stands beside the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from nnsight_magic.engine.running.text_config import text_config

# Child names as they occur in transformers, the most usual first.
NORM_NAMES = (
    "norm",
    "ln_f",
    "final_layer_norm",
    "final_layernorm",
    "norm_f",
    "layernorm",
    "layer_norm",
    "final_norm",
    "embedding_norm",  # LFM2's last one, whatever it is called
    "ln_out",
)
ATTENTION_NAMES = ("self_attn", "attn", "attention", "self_attention", "linear_attn")
MLP_NAMES = ("mlp", "feed_forward", "ffn", "ff", "block_sparse_moe", "moe", "feedforward")

# T5 keeps the parts of a block in a list: attention first, the feed-forward part last.
ATTENTION_IN_LIST = ("SelfAttention",)
MLP_IN_LIST = ("DenseReluDense", "mlp")

# Granite-4 adds the outputs of two modules: experts, if there are any, and an MLP for all tokens.
EXPERTS, SHARED_MLP = "block_sparse_moe", "shared_mlp"


@dataclass(frozen=True)
class StandardNames:
    """Paths of the standard parts in one model; `None` where the model has no such part."""

    layers: str | None = None
    embed: str | None = None
    norm: str | None = None
    unembed: str | None = None

    def path_of(self, name: str) -> str | None:
        """The real path behind a standard name of the root, or `None`."""
        return getattr(self, name, None) if name in ROOT_NAMES else None

    def block_index(self, path: str) -> int | None:
        """The number of the block that `path` lies in (or is), or `None` outside the blocks."""
        if self.layers is None or not path.startswith(self.layers + "."):
            return None
        return int(path[len(self.layers) + 1 :].split(".", 1)[0])

    def is_block(self, path: str) -> bool:
        """Whether `path` is one whole block."""
        if self.layers is None or self.block_index(path) is None:
            return False
        return path.count(".") == self.layers.count(".") + 1


def blocks_at(root: nn.Module, layers: str) -> Sequence[nn.Module]:
    """The decoder blocks of a model, which stand in the list at this path."""
    found: Any = root
    for name in layers.split("."):
        found = found._modules[name]
    return found


ROOT_NAMES = ("layers", "embed", "norm", "unembed")
BLOCK_NAMES = ("attn", "mlp")


def find_names(root: nn.Module) -> StandardNames:
    """Find the standard parts of a model by the shape of its module tree."""
    paths = {id(module): path for path, module in reversed(list(root.named_modules()))}
    layers = _find_layers(root)
    return StandardNames(
        layers=layers,
        embed=_find_embedding(root, layers, paths),
        norm=_find_norm(root, layers),
        unembed=_path_of_embedding(root, "get_output_embeddings", paths),
    )


def part_of_block(block: nn.Module, name: str) -> str | None:
    """The path, relative to a block, of its `attn` or `mlp`; `None` if it has none."""
    candidates, in_list = {
        "attn": (ATTENTION_NAMES, ATTENTION_IN_LIST),
        "mlp": (MLP_NAMES, MLP_IN_LIST),
    }[name]
    children = block._modules
    if name == "mlp" and SHARED_MLP in children:
        # Neither of two is the block's `mlp`: what has no experts has one.
        return None if getattr(block, "has_experts", EXPERTS in children) else SHARED_MLP
    for candidate in candidates:
        if children.get(candidate) is not None:
            return candidate
    for child_name, child in children.items():
        if isinstance(child, nn.ModuleList):
            for i, part in enumerate(child):
                for candidate in in_list:
                    if candidate in part._modules:
                        return f"{child_name}.{i}.{candidate}"
    return None


def _find_layers(root: nn.Module) -> str | None:
    """The path of the list of blocks: of equal modules, with the most parameters.

    In an encoder-decoder model the decoder's blocks are meant: they carry the residual
    stream that ends in the logits. Hybrids (Jamba, Zamba2) mix blocks of several classes; theirs
    is a list as long as the configuration says.
    """
    count = getattr(text_config(root), "num_hidden_layers", None)
    best: tuple[tuple[bool, int, int], str] | None = None
    for path, module in root.named_modules():
        if not isinstance(module, nn.ModuleList) or len(module) == 0:
            continue
        if len({type(child) for child in module}) != 1 and len(module) != count:
            continue
        size = sum(p.numel() for p in module.parameters())
        rank = ("decoder" in path.split("."), size, -path.count("."))
        if size and (best is None or rank > best[0]):
            best = (rank, path)
    return best[1] if best else None


def _find_norm(root: nn.Module, layers: str | None) -> str | None:
    if layers is None:
        return None
    parent = layers.rpartition(".")[0]
    children = root.get_submodule(parent)._modules
    # Vision models hold the blocks one level deeper than the final norm.
    grandparent = parent.rpartition(".")[0]
    for path, found in (
        (parent, children),
        (grandparent, root.get_submodule(grandparent)._modules),
    ):
        for name in NORM_NAMES:
            if found.get(name) is not None:
                return f"{path}.{name}" if path else name
    return None


def _find_embedding(root: nn.Module, layers: str | None, paths: dict[int, str]) -> str | None:
    """The embedding of the tokens whose residual stream flows through `layers`.

    In an encoder-decoder model that is the decoder's own: what the model calls its embedding is
    the encoder's there, or a module that holds shared weights and is never called. A decoder
    that calls the encoder's very module has none that a path could tell apart.
    """
    config = getattr(root, "config", None)
    if not getattr(config, "is_encoder_decoder", False) or layers is None:
        return _path_of_embedding(root, "get_input_embeddings", paths)
    decoder = root.get_submodule(layers.rpartition(".")[0])
    own = decoder._modules.get("embed_tokens")
    if own is None:
        return None
    stacks = [module for module in root.modules() if module._modules.get("embed_tokens") is own]
    return paths[id(own)] if len(stacks) == 1 else None


def _path_of_embedding(root: nn.Module, getter: str, paths: dict[int, str]) -> str | None:
    get = getattr(root, getter, None)
    if get is None:
        return None
    try:
        module = get()
    except (NotImplementedError, AttributeError):
        return None
    return paths.get(id(module)) if module is not None else None

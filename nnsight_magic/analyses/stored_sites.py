"""What a stream of activations keeps of every token, by names that travel: texts, not functions.

    "resid_post"                              one of the sites of `sites`, in each chosen block
    "layers[layer].mlp.gate_proj.output"      any value of a block, `layer` standing for its number
    "embed.output"                            a value that is there once

The last two are spelled as in a trace cell.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.analyses.sites import PLACES, place_of
from nnsight_magic.errors import BadInputError

LAYER = "layer"  # the name that stands for the block's number
# In the order in which a block comes to them, so that one forward serves all.
_ORDER = ("resid_pre", "q", "k", "v", "pattern", "heads", "attn", "resid_mid", "neurons", "mlp")
_ROWS, _TOKENS = 3, 5  # of the first small run: no width of a model is either


@dataclass(frozen=True)
class StoredSite:
    """One value that is kept: a site and, where it is in every block, the block's number.

    Attributes:
        site: as the user wrote it.
        layer: `None` of a value that is there once.
    """

    site: str
    layer: int | None

    @property
    def key(self) -> str:
        """Its name in a shard."""
        return self.site if self.layer is None else f"{self.site}.{self.layer}"

    def value(self, model: Any) -> Any:
        """What stands there, `(batch, tokens, …)`, in the trace that goes on."""
        if self.site in PLACES:
            return PLACES[self.site].value(model.layers[self.layer])
        return _at(ast.parse(self.site, mode="eval").body, model, self.layer)


def stored_sites(sites: str | Sequence[str], layers: Sequence[int]) -> list[StoredSite]:
    """All values to keep, in the order in which a forward comes to them.

    Args:
        sites: names of sites or paths.
        layers: the chosen blocks.

    Raises:
        BadInputError: a name is neither, or is there twice.
    """
    names = [sites] if isinstance(sites, str) else list(sites)
    if not names:
        raise BadInputError("sites is empty: there is nothing to keep.")
    found = [each for name in names for each in _of_name(name, layers)]
    if len(set(found)) < len(found):
        raise BadInputError(f"A site is named twice: {', '.join(map(str, names))}.")
    order = {name: number for number, name in enumerate(_ORDER)}
    return sorted(
        found, key=lambda s: (-1 if s.layer is None else s.layer, order.get(s.site, len(order)))
    )


def probe(model: Any, sites: Sequence[StoredSite]) -> dict[str, torch.Tensor]:
    """What one token has at each of the sites, by the site's key: its shape and its dtype.

    Three rows of five tokens are run, so that an axis is told by its length.

    Raises:
        BadInputError: a value has no row for every token, or its size follows the prompt's.
    """
    ids = torch.arange(_ROWS * _TOKENS).reshape(_ROWS, _TOKENS) % min(15, _vocabulary(model))
    found = {}
    for site, value in zip(sites, read_sites(model, sites, ids, None, _whole), strict=True):
        if tuple(value.shape[:2]) != (_ROWS, _TOKENS):
            raise BadInputError(
                f"{site.key} has no row for every token: of {_ROWS} texts of {_TOKENS} tokens it "
                f"is {tuple(value.shape)}.\nExpected ({_ROWS}, {_TOKENS}, …)."
            )
        found[site.key] = value[0, 0]
    return found


def read_sites(
    model: Any,
    sites: Sequence[StoredSite],
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    keep: Callable[[Any], torch.Tensor],
) -> list[torch.Tensor]:
    """What is kept of the values at these sites in one forward, which ends behind the last.

    Args:
        ids: `(batch, tokens)`.
        mask: 1 at a token and 0 at padding; `None` without padding.
        keep: takes what is wanted out of a value `(batch, tokens, …)` at once, so that the values
            of all blocks never stand in memory together.
    """
    inputs = {"input_ids": ids} if mask is None else {"input_ids": ids, "attention_mask": mask}
    with model.trace(inputs, grad=False, resume=False):
        return [keep(site.value(model)) for site in sites]


def _whole(value: Any) -> torch.Tensor:
    return value.value


def _of_name(name: str, layers: Sequence[int]) -> list[StoredSite]:
    if name == "pattern":
        raise BadInputError(
            "A row of a pattern is as long as its text, so patterns make no table.\n"
            "analyses.attention(model, prompt) keeps them."
        )
    if name in PLACES:
        return [StoredSite(name, layer) for layer in layers]
    try:
        tree = ast.parse(name, mode="eval").body
    except SyntaxError:
        tree = None
    if not isinstance(tree, ast.Attribute):
        place_of(name)  # says which there are
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree else set()
    if LAYER in names:
        return [StoredSite(name, layer) for layer in layers]
    return [StoredSite(name, None)]


def _at(node: ast.expr, model: Any, layer: int | None) -> Any:
    """What a path means, link by link: `layers[layer].mlp.output`."""
    if isinstance(node, ast.Name):
        return model if node.id == "model" else getattr(model, node.id)
    if isinstance(node, ast.Attribute) and not node.attr.startswith("_"):
        return getattr(_at(node.value, model, layer), node.attr)
    if isinstance(node, ast.Subscript):
        return _at(node.value, model, layer)[_index(node.slice, layer)]
    raise BadInputError(
        f"{ast.unparse(node)!r} is no link of a path. A site is a name, such as resid_post, or a "
        "path, such as layers[layer].mlp.gate_proj.output."
    )


def _index(node: ast.expr, layer: int | None) -> Any:
    if isinstance(node, ast.Name) and node.id == LAYER:
        return layer
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise BadInputError(
            f"[{ast.unparse(node)}] is no index of a site: expected a number or `{LAYER}`."
        ) from None


def _vocabulary(model: Any) -> int:
    embedding = getattr(model.module, "get_input_embeddings", None)
    return getattr(embedding() if embedding else None, "num_embeddings", 15)

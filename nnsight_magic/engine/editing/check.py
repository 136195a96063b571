"""Whether an edit can index what a module gives, told when the edit is made.

A tuple takes a position first: `attn.output[:, -1] = 0` would be recorded, and every later trace
would fail. What a module gives is known from a scan of shapes, which runs for modules alone whose
forward says of itself that it returns a tuple or a model output.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.running.inputs import Inputs
from nnsight_magic.engine.running.scan import Scanned, scan
from nnsight_magic.engine.values.words import index_text
from nnsight_magic.errors import EditError, NnsightError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Placed

_TOKENS = 4  # of the prompt that nobody gave; the shapes of a value have as many, its kind does not


def check_index(handle: Placed, kind: str, index: tuple) -> None:
    """Refuse an index that the value at this place cannot take.

    Raises:
        EditError: it is a tuple, and the first pair of brackets names no item of it.
    """
    if not index or isinstance(index[0], int | str):
        return
    if kind == "inputs":
        raise EditError(
            f"{handle.name}.inputs is `(args, kwargs)` and takes no [{index_text(index[0])}].\n"
            f"Name the argument first: {handle.name}.inputs[0][0][{index_text(index[0])}], or\n"
            f"write to the first one: {handle.name}.input[{index_text(index[0])}]."
        )
    if (
        kind != "output"
        or handle.is_block
        or handle._operation is not None
        or not _says_container(handle.module)
    ):
        return
    output = _output_of(handle)
    if isinstance(output, tuple | Mapping) and output:
        held = list(output.items() if isinstance(output, Mapping) else enumerate(output))
        items = ", ".join(f"[{key!r}] {each!r}" for key, each in held if each is not None)
        kind = f"tuple of {len(output)}" if isinstance(output, tuple) else "container"
        where, shown = f"{handle.name}.output" if handle.name else "output", index_text(index[0])
        raise EditError(
            f"{where} is a {kind} and takes no [{shown}].\n"
            f"It holds: {items}.\nName the item first: {where}[{held[0][0]!r}][{shown}]."
        )


def _says_container(module: Any) -> bool:
    try:
        said = inspect.signature(module.forward).return_annotation
    except (TypeError, ValueError):
        return False
    return any(word in str(said).lower() for word in ("tuple", "output"))


def _output_of(handle: Placed) -> Any:
    """What the module gives on a few tokens, as shapes; `None` where no scan can tell."""
    root, findings = handle._model._root, handle._model._findings
    known = findings.scanned
    if known is None or known[0] is not root:
        known = findings.scanned = (root, _scanned(root))
    found: Scanned | None = known[1].get(handle.path)
    return None if found is None else found.output


def _scanned(root: torch.nn.Module) -> Any:
    config = getattr(root, "config", None)
    if getattr(root, "main_input_name", None) != "input_ids":
        return {}
    ids = torch.zeros((1, _TOKENS), dtype=torch.long)
    given: dict[str, Any] = {"input_ids": ids}
    if getattr(config, "is_encoder_decoder", False):
        given["decoder_input_ids"] = ids
    if hasattr(config, "use_cache"):
        given["use_cache"] = False
    try:
        return scan(root, Inputs(kwargs=given), {})
    except NnsightError:
        return {}

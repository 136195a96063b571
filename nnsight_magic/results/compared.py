"""Two runs beside each other, as text: what was written, what came out, what both saved."""

from __future__ import annotations

from nnsight_magic.printable import printable
from nnsight_magic.results.record import RunRecord, SavedVariable
from nnsight_magic.terminal import rendered, table_of
from nnsight_magic.views.data.words import percent, visible


def compared(first: RunRecord, second: RunRecord) -> str:
    """Two runs beside each other, in this order: what was written, what came out."""
    heads = ("", f"run {first.number}", f"run {second.number}")
    rows: list[tuple[str, ...]] = [
        ("model", first.model.in_words, second.model.in_words),
        ("wrote", ", ".join(first.wrote) or "nothing", ", ".join(second.wrote) or "nothing"),
        ("extent", first.extent, second.extent),
        ("time", first.ran.time, second.ran.time),
    ]
    if first.model.edits or second.model.edits:
        told = (", ".join(each.model.edits) or "none" for each in (first, second))
        rows.insert(2, ("edits in force", *told))
    if first.best or second.best:
        rows.append(("farthest", first.best, second.best))
    for index in range(max(len(first.prompts), len(second.prompts))):
        pair = [r.prompts[index] if index < len(r.prompts) else None for r in (first, second)]
        rows.append(("prompt", *(shortened(p.text, 40) if p else "" for p in pair)))
        if any(p and p.generated for p in pair):
            rows.append(("generated", *(shortened(p.new_text, 60) if p else "" for p in pair)))
        tokens = dict.fromkeys(c.token for p in pair if p for c in p.predictions)
        for token in tokens:
            shares = []
            for p in pair:
                share = next((c.p for c in (p.predictions if p else ()) if c.token == token), None)
                shares.append("" if share is None else percent(share))
            rows.append((visible(token), *shares))
    differences = [
        (each.name, *_difference(each, other))
        for each in first.saved
        for other in second.saved
        if other.name == each.name
    ]
    table = rendered(table_of(heads, rows))
    if not differences:
        return table
    columns = ("saved in both", "shape", "greatest difference", "mean", "cosine")
    return f"{table}\n\n{rendered(table_of(columns, differences))}"


def _difference(one: SavedVariable, other: SavedVariable) -> tuple[str, str, str, str]:
    """Shape, greatest and mean difference, and cosine of two saved tensors, in words."""
    import torch

    a, b = one.tensor, other.tensor
    if one.kind != "tensor" or other.kind != "tensor":
        return (one.kind if one.kind == other.kind else f"{one.kind}, {other.kind}", "", "", "")
    if one.shape != other.shape:
        return f"{one.shape} and {other.shape}", "", "", ""
    if a is None or b is None:
        return str(one.shape), "no longer there", "", ""
    if torch.equal(a, b.to(a.device)):
        return str(one.shape), "none, they are equal", "", ""
    a, b = (t.detach().cpu().to(torch.complex64 if t.is_complex() else torch.float32).flatten()
            for t in (a, b))  # fmt: skip
    apart = (a - b).abs()
    place = tuple(int(k) for k in torch.unravel_index(apart.argmax(), one.shape or ()))
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0) if not a.is_complex() else None
    return (
        str(one.shape),
        f"{apart.max():.3g} at {list(place)}",
        f"{apart.mean():.3g}",
        "" if cosine is None else f"{cosine:.4f}",
    )


def shortened(text: str, width: int) -> str:
    text = printable(text.replace("\n", "⏎").replace("\t", "⇥"))
    return text if len(text) <= width else text[: width - 1] + "…"

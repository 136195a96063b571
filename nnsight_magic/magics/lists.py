"""What the list magics print: saved variables, models, runs, edits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nnsight_magic.errors import NoModelError, OptionError
from nnsight_magic.magics.models import Models, title
from nnsight_magic.near import did_you_mean
from nnsight_magic.printable import printable
from nnsight_magic.results.compared import compared, shortened
from nnsight_magic.results.history import Runs
from nnsight_magic.results.record import SavedVariable
from nnsight_magic.results.result import TraceResult
from nnsight_magic.results.saved import describe_saved
from nnsight_magic.terminal import one_line_rows, rendered, table_of
from nnsight_magic.views.data.words import percent, size_text, visible

_MISSING = object()


def saved(runs: Runs, namespace: dict[str, Any], names: Iterable[str], drop: bool) -> str:
    """The variables that traces have saved and that are still there; with `drop` they go."""
    found = still_there(runs, namespace)
    names = list(names)
    for name in names:
        if name not in found:
            raise OptionError(
                f"{name!r} was not saved by a trace; {did_you_mean(name, found)}".rstrip("; ")
            )
    picked = {name: found[name] for name in (names or found)}
    if not picked:
        return "nothing is saved"
    if drop:
        for name in picked:
            del namespace[name]
        return f"dropped {', '.join(picked)}"
    rows = []
    total = 0
    for name, (result, each) in picked.items():
        rows.append(
            (
                name,
                each.form,
                each.dtype,
                each.device,
                size_text(each.bytes),
                str(result.number),
                each.where,
            )
        )
        total += each.bytes
    table = table_of(("name", "shape", "dtype", "device", "size", "run", "from"), rows)
    kept = runs.overwritten_bytes
    before = f"; {size_text(kept)} more of runs before, for %runs A B" if kept else ""
    return f"{rendered(table)}\n{size_text(total)} in all{before}"


def still_there(
    runs: Iterable[TraceResult], namespace: Mapping[str, Any]
) -> dict[str, tuple[TraceResult, SavedVariable]]:
    """What runs have saved and variables still hold, by name: the last run that saved it."""
    found: dict[str, tuple[TraceResult, SavedVariable]] = {}
    for result in runs:
        for each in result.saved:
            found.pop(each.name, None)
            now = namespace.get(each.name, _MISSING)
            if now is not _MISSING and _is_still(each, now):
                found[each.name] = (result, each)
    return found


def _is_still(saved: SavedVariable, now: Any) -> bool:
    """Whether a variable holds what a trace saved, and not something that came after it."""
    if saved.ref is not None:
        return saved.tensor is now
    return describe_saved(saved.name, saved.where, now, saved.stepped) == saved


def models(found: Models) -> str:
    """The notebook's models, the one in use marked."""
    rows = []
    try:
        current = found.find(None)[0]
    except NoModelError:
        current = None
    for name, model in found.all().items():
        if getattr(model, "loaded", True):
            parameters = list(model.module.parameters())
            count = f"{sum(p.numel() for p in parameters) / 1e6:.1f} M"
            size = size_text(sum(p.numel() * p.element_size() for p in parameters))
            place = str(parameters[0].device) if parameters else ""
        else:
            count, size, place = "", "", "not loaded yet"
        mark = "*" if name == current else ""
        rows.append((mark, name, title(model), count, size, place))
    if not rows:
        return "no model is loaded; load one: %model demo"
    return rendered(table_of(("", "name", "model", "parameters", "size", "device"), rows))


def runs(found: Runs, numbers: list[str]) -> str:
    """The runs so far, or two of them beside each other."""
    if not numbers:
        if not len(found):
            return "no cell has been traced yet"
        columns = {
            "run": [str(r.number) for r in found],
            "kind": [r.magic for r in found],
            "model": [printable(r.record.model.in_words) for r in found],
            "prompt": [shortened(r.prompts[0].text if r.prompts else "", 32) for r in found],
            "wrote": [", ".join(r.wrote) for r in found],
            "edits": [", ".join(r.edits) for r in found],
            "best": [best_of(r) for r in found],
            "ran": [how_far(r) for r in found],
            "time": [r.time for r in found],
        }
        if not any(columns["edits"]):
            del columns["edits"]
        rows = list(zip(*columns.values(), strict=True))
        giving_way = {"model": 12, "prompt": 14, "wrote": 20, "edits": 12, "best": 10}
        return one_line_rows(tuple(columns), rows, giving_way)
    if len(numbers) != 2:
        raise OptionError("give two runs to compare: %runs 3 5")
    first, second = (found.get(each).record for each in numbers)
    return compared(first, second)


def how_far(result: TraceResult) -> str:
    """How far a run came, in a word or two."""
    if result.failed or result.magic == "generate" or not result.blocks:
        return result.extent.removeprefix("ended by ")
    return f"{result.blocks_run} of {result.blocks} blocks"


def best_of(result: TraceResult) -> str:
    """What a run predicts, or how its new text begins, in a few words; "" for none."""
    if result.record.best:
        return result.record.best
    if not result.prompts:
        return ""
    first = result.prompts[0]
    if first.generated:
        return shortened(first.new_text.strip(), 24)
    if first.predictions:
        return f"{visible(first.predictions[0].token)} {percent(first.predictions[0].p)}"
    return ""

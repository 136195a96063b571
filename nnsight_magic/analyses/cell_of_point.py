"""One point of a result as a `%%trace` cell: the same run, with the point's numbers filled in.

    effect.as_cell(layer=20, position=8)

gives the text of a cell whose last name, `patched_here`, is the number that stands at that point: a
name of its own, so that running it leaves the result where it is. Each analysis has its way of
writing one, by its name in the result's recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnsight_magic.analyses.cell_of_reading import attention_lines, lens_lines
from nnsight_magic.analyses.cell_of_sweep import HERE, cell_of_sweep
from nnsight_magic.analyses.recipe_name import RECIPE
from nnsight_magic.analyses.sites import PLACES
from nnsight_magic.errors import BadInputError
from nnsight_magic.near import listing

MOST_TEXTS = 12  # that a cell names on its line

Recipe = Mapping[str, Any]
Point = Mapping[str, Any]


class CellText(str):
    """The text of a cell; a console or a notebook shows it as it is, without quotation marks."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


def cell_with(attrs: Mapping[str, Any], lines: Callable[[Recipe], Sequence[str]]) -> CellText:
    """A cell on a result's own prompt.

    Args:
        attrs: of the result.
        lines: the lines behind the first, from the recipe.

    Raises:
        BadInputError: the prompt cannot be written on a line.
    """
    recipe = json.loads(attrs[RECIPE])
    if "no" in recipe:
        raise BadInputError(f"There is no cell for this point: {recipe['no']}.")
    return CellText("\n".join([line_of(recipe["prompts"]), *lines(recipe)]) + "\n")


def cell_of(attrs: Mapping[str, Any], name: str, point: Point, value: float) -> CellText:
    """The cell of one point.

    Args:
        attrs: of the result.
        name: of the result; the cell's number is called so.
        point: for each axis the place.
        value: the number that stands there.

    Raises:
        BadInputError: the result does not say how it was measured, or it was measured in a way
            that no cell can be written of; the message says why.
    """
    if RECIPE not in attrs:
        raise BadInputError(
            "There is no cell for this number: it was computed from numbers that were measured.\n"
            "Ask the result of the analysis itself: found.as_cell(layer=3, head=4)."
        )
    recipe = json.loads(attrs[RECIPE])
    if "no" in recipe:
        raise BadInputError(f"There is no cell for this point: {recipe['no']}.")
    write = WRITERS[recipe["analysis"]]
    name = f"{name if name.isidentifier() else 'found'}{HERE}"
    return CellText(write(recipe, point, name, value).rstrip() + "\n")


# ── how texts and numbers are written ────────────────────────────────────────────────────────


def quoted(text: str) -> str:
    """A prompt on the line of a magic: a literal of Python in which nothing is replaced.

    >>> print(quoted('{"a": $b}'))
    '{{"a": {chr(36)}b}}'
    """
    held = text.replace("{", "{{").replace("}", "}}")
    held = re.sub(r"\$(?=\w)", "{chr(36)}", held)  # without quotes, which `repr` would escape
    literal = json.dumps(held, ensure_ascii=False)
    return literal if '"' not in held and literal.isprintable() else repr(held)


def line_of(prompts: Mapping[str, str]) -> str:
    """The line of a cell, of one prompt without its name."""
    if len(prompts) == 1:
        return f"%%trace {quoted(next(iter(prompts.values())))}"
    return "%%trace " + " ".join(f"{name}={quoted(text)}" for name, text in prompts.items())


def _measured(recipe: Recipe, run: str) -> str:
    """The metric as an expression; `run` is the prompt's name with a dot, or nothing."""
    metric = recipe["metric"]
    wide = "" if metric["wide"] else ".float()"
    if metric["kind"] == "logit difference":
        (one,), (other,) = metric["answer"], metric["versus"]
        return " - ".join(f"{run}logits[0, -1, {each!r}]{wide}" for each in (one, other))
    count = len(metric["answer"])
    terms = (
        f"{run}logits[0, {k - count}]{wide}.log_softmax(-1)[{token!r}]"
        for k, token in enumerate(metric["answer"])
    )
    total = " + ".join(terms)
    return f"({total}).exp()" if metric["kind"] == "probability" else total


def _less(value: float) -> str:
    """What is taken off an expression: `- 1.5`, `+ 1.5`."""
    return f"- {value!r}" if value >= 0 else f"+ {-value!r}"


def _index(site: str, position: int | None, head: int | None) -> str:
    """The index of a point in what stands at its site."""
    order = (head, position) if site == "pattern" else (position, head)
    found = ["" if each is None else str(each) for each in order]
    while found and not found[-1]:
        found.pop()
    return ", ".join([":", *(each or ":" for each in found)])


def _place(recipe: Recipe, point: Point, run: str = "", position: int | None = None) -> str:
    """The value at a point: `corrupt.layers[20].resid_post[:, 8]`."""
    position = point.get("position") if position is None else position
    index = _index(recipe["site"], position, point.get("head"))
    return f"{run}layers[{point['layer']}].{PLACES[recipe['site']].path}[{index}]"


def _share(recipe: Recipe, name: str) -> list[str]:
    """The line that makes a part of the whole way of a number."""
    return [f"{name} = {name} / {recipe['whole']!r}"] if "whole" in recipe else []


# ── the analyses ─────────────────────────────────────────────────────────────────────────────


def _patch(recipe: Recipe, point: Point, name: str, value: float) -> str:
    source, target = recipe["ways"]
    there = _place(recipe, point, f"{source}.", _source(recipe, point))
    measured = _measured(recipe, f"{target}.")
    return "\n".join([
        line_of(recipe["prompts"]),
        f"{_place(recipe, point, f'{target}.')} = {there}",
        f"_measured = {measured}",
        f"{name} = _measured {_less(recipe['baseline'])}  # less what it is without the patch",
        *_share(recipe, name),
    ])  # fmt: skip


def _source(recipe: Recipe, point: Point) -> int | None:
    """The position that a patch takes from."""
    if "position" not in point:
        return None
    return next(source for source, into in recipe["positions"] if into == point["position"])


def _ablate(recipe: Recipe, point: Point, name: str, value: float) -> str:
    how = recipe["how"]
    others = recipe["others"]
    if len(others) > MOST_TEXTS:
        raise BadInputError(
            f"There is no cell for this point: its line would name {len(others)} texts, and takes "
            f"{MOST_TEXTS} at most."
        )
    lines = {
        "zero": _zero, "mean": _mean, "resample": _resampled,
    }[how](recipe, point, others)  # fmt: skip
    return "\n".join([
        *lines,
        f"{name} = _measured {_less(recipe['baseline'])}  # less what it is with all in place",
    ])  # fmt: skip


def _zero(recipe: Recipe, point: Point, others: list[str]) -> list[str]:
    return [
        line_of(recipe["prompts"]),
        f"{_place(recipe, point)} = 0",
        f"_measured = {_measured(recipe, '')}",
    ]


def _mean(recipe: Recipe, point: Point, others: list[str]) -> list[str]:
    prompts = {**recipe["prompts"], **{f"text{k}": text for k, text in enumerate(others)}}
    whole = f"layers[{point['layer']}].{PLACES[recipe['site']].path}"
    axis, count = recipe["token_axis"], recipe["count"]
    names = [f"text{k}.{whole}.double()" for k in range(len(others))]
    if not recipe["by_position"]:
        start = "1" if recipe["first_left_out"] else ""
        ends = recipe["ends"]  # of each text's own tokens
        names = [
            f"{each}[{':, ' * axis}{start}:{end}].sum({axis}, keepdim=True)"
            for each, end in zip(names, ends, strict=True)
        ]
    index = _index(
        recipe["site"],
        point.get("position") if recipe["by_position"] or "position" not in point else 0,
        point.get("head"),
    )
    return [
        line_of(prompts),
        "_texts = [",
        *(f"    {each}," for each in names),
        "]",
        f"_mean = sum(_texts) / {count}",
        f"{_place(recipe, point, 'main.')} = _mean[{index}]",
        f"_measured = {_measured(recipe, 'main.')}",
    ]


def _resampled(recipe: Recipe, point: Point, others: list[str]) -> list[str]:
    (prompt,) = recipe["prompts"].values()
    drawn = recipe["drawn"]  # for each repeat the number of its text
    prompts = {f"run{k}": prompt for k in range(len(drawn))}
    prompts |= {f"text{k}": text for k, text in enumerate(others)}
    writes = [
        f"{_place(recipe, point, f'run{k}.')} = {_place(recipe, point, f'text{text}.')}"
        for k, text in enumerate(drawn)
    ]
    runs = ", ".join(_measured(recipe, f"run{k}.") for k in range(len(drawn)))
    return [line_of(prompts), *writes, f"_measured = sum([{runs}]) / {len(drawn)}"]


def _attribute(recipe: Recipe, point: Point, name: str, value: float) -> str:
    if recipe["rule"] == "ig":
        return _integrated(recipe, point, name)
    source, target = recipe["ways"]
    layer, rule = point["layer"], recipe["rule"]
    here = _place(recipe, point, f"{target}.")
    body = [
        f"_there = {_place(recipe, point, f'{source}.', _source(recipe, point))}",
        f"_here = {here}.detach().clone().requires_grad_()",
        f"{here} = _here",
    ]
    measured = f"_measured = {_measured(recipe, f'{target}.')}"
    head = [line_of(recipe["prompts"])]
    if rule != "grad":
        head += [
            "from nnsight_magic.analyses.rules import followed",
            f"with followed(model, {rule!r}):  # what counts as constant in the way back",
        ]
        if rule == "relp" and recipe["site"] != "pattern":
            body = _detaching(layer, body, late=PLACES[recipe["site"]].late)
        body = ["    " + line for line in [*body, measured]]
    else:
        body = [*body, measured]
    return "\n".join([
        *head,
        *body,
        "_measured.backward()",
        f"{name} = ((_there.float() - _here.float()) * _here.grad.float()).sum()",
    ])  # fmt: skip


def _integrated(recipe: Recipe, point: Point, name: str) -> str:
    """The gradient at every step of the way, each in a run of its own."""
    source, target = recipe["ways"]
    steps = recipe["steps"]
    if steps > MOST_TEXTS:
        raise BadInputError(
            f"There is no cell for this point: its line would name {steps} runs, and takes "
            f"{MOST_TEXTS} at most."
        )
    runs = {f"step{k}": recipe["prompts"][target] for k in range(steps)}
    here = _place(recipe, point, f"{target}.")
    there = _place(recipe, point, f"{source}.", _source(recipe, point))
    at_step = _place(recipe, point, "_run.")
    return "\n".join([
        line_of({**recipe["prompts"], **runs}),
        f"_runs = [{', '.join(runs)}]",
        f"_from = {target}.layers[0].resid_pre.detach()",
        f"_way = {source}.layers[0].resid_pre.detach() - _from",
        "for _k, _run in enumerate(_runs):",
        f"    _run.layers[0].resid_pre = _from + (_k + 0.5) / {steps} * _way",
        f"_change = ({there} - {here}).detach().float()",
        f"_points = [{at_step}.detach().clone().requires_grad_() for _run in _runs]",
        "for _run, _point in zip(_runs, _points):",
        f"    {at_step} = _point",
        f"_measured = sum({_measured(recipe, '_run.')} for _run in _runs)",
        "_measured.backward()",
        f"{name} = (_change * sum(_point.grad.float() for _point in _points) / {steps}).sum()",
    ])  # fmt: skip


def _detaching(layer: int, body: Sequence[str], *, late: bool) -> list[str]:
    """Patterns as constants in every block; the point where its block is passed."""
    constant = "    _block.attn.pattern = _block.attn.pattern.detach()"
    own = [f"    if _k == {layer}:", *(f"        {line}" for line in body)]
    parts = [constant, *own] if late else [*own, constant]
    return ["for _k, _block in enumerate(layers):", *parts]


def _dla(recipe: Recipe, point: Point, name: str, value: float) -> str:
    at, cap = recipe["position"], recipe["cap"]
    tokens = [*recipe["metric"]["answer"], *recipe["metric"]["versus"]]
    ids = recipe["ids"]
    words = " - ".join(map(repr, tokens))
    head = [
        line_of(recipe["prompts"]),
        "from nnsight_magic.analyses.readout import frozen_norm, unembedding",
    ]
    made, part = _part(recipe, point, at)
    rows = " - ".join(f"_out.row({each})" for each in ids)
    biases = " - ".join(f"_out.bias_of({each})" for each in ids)
    end = [
        f"_norm = frozen_norm(norm.module, norm.input[0, {at}], norm.output[0, {at}])",
        f"_out = unembedding(unembed.module, unembed.input[0, {at}], logits[0, {at}], {cap!r})",
        f"_direction = {rows}  # {words}",
    ]
    number = {
        "norm bias": "_norm.shape.bias @ _direction",
        "unembedding bias": biases,
    }.get(point.get("part", ""), f"{part} @ _norm.pull_back(_direction)")
    return "\n".join([*head, *made, *end, f"{name} = {number}"])


def _part(recipe: Recipe, point: Point, at: int) -> tuple[list[str], str]:
    """The lines that read a part of the residual stream, and its name."""
    if "head" in point:
        layer = point["layer"]
        factor = f"{recipe['factor']!r} * " if recipe["factor"] != 1 else ""
        read = f"{factor}layers[{layer}].attn.result[0, {at}, {point['head']}].float()"
        return [f"_part = {read}"], "_part"
    part = str(point["part"])
    if part in ("norm bias", "unembedding bias"):
        return [], ""
    if part == "embed":
        return [f"_part = layers[0].resid_pre[0, {at}].float()"], "_part"
    half, layer = part.split()
    if half != "rest":
        return [f"_part = layers[{layer}].{half}.added[0, {at}].float()"], "_part"
    parts = [f"layers[{layer}].{each}.added" for each in recipe["halves"][layer]]
    read = [f"_before = layers[{layer}].resid_pre[0, {at}].float()"]
    read += [f"_{k} = {each}[0, {at}].float()" for k, each in enumerate(parts)]
    read += [f"_behind = layers[{layer}].resid_post[0, {at}].float()"]
    less = "".join(f" - _{k}" for k in range(len(parts)))
    return [*read, f"_part = _behind - _before{less}"], "_part"


def _lens(recipe: Recipe, point: Point, name: str, value: float) -> str:
    return "\n".join([line_of(recipe["prompts"]), *lens_lines(recipe, point, name, value)])


def _attention(recipe: Recipe, point: Point, name: str, value: float) -> str:
    return "\n".join([line_of(recipe["prompts"]), *attention_lines(recipe, point, name, value)])


WRITERS: dict[str, Callable[[Recipe, Point, str, float], str]] = {
    "attention": _attention,
    "lens": _lens,
    "patch": _patch,
    "ablate": _ablate,
    "attribute": _attribute,
    "dla": _dla,
    "sweep": cell_of_sweep,
}


def point_of(axes: Sequence[Any], fixed: Mapping[str, Any], given: Mapping[str, Any]) -> list[int]:
    """The place along each axis that is meant, counted from 0.

    Args:
        axes: of the result, each with `name` and `places`.
        fixed: places that a selection has fixed already.
        given: places by the axes' names; a number may count from the end where it is no place.

    Raises:
        BadInputError: an axis is missing, or there is no such axis or place.
    """
    names = [axis.name for axis in axes]
    unknown = [name for name in given if name not in names]
    if unknown:
        done = f"; {unknown[0]} is {fixed[unknown[0]]!r} here" if unknown[0] in fixed else ""
        raise BadInputError(
            f"There is no axis {unknown[0]!r}: the axes are {listing(names) or 'none'}{done}."
        )
    missing = [name for name in names if name not in given]
    if missing:
        raise BadInputError(
            f"A point has a place on every axis; {listing(missing)} is missing: "
            f"as_cell({', '.join(f'{name}={_some(axes, name)!r}' for name in names)})."
        )
    return [_at(axis, given[axis.name]) for axis in axes]


def _some(axes: Sequence[Any], name: str) -> Any:
    return next(axis.places[0] for axis in axes if axis.name == name)


def _at(axis: Any, place: Any) -> int:
    """Where a place stands on its axis."""
    place = place.item() if hasattr(place, "item") else place
    places = list(axis.places)
    if place in places:
        return places.index(place)
    words = [] if axis.words is None else list(axis.words)
    if isinstance(place, str) and words.count(place) == 1:
        return words.index(place)
    counted = places == list(range(len(places)))
    if counted and isinstance(place, int) and -len(places) <= place < 0:
        return place % len(places)
    told = f"{places[0]!r} to {places[-1]!r}" if len(places) > 8 else listing(map(repr, places))
    again = f"; {place!r} stands there {words.count(place)} times" if place in words else ""
    raise BadInputError(f"There is no place {place!r} on the axis {axis.name}: {told}{again}.")

"""A result as static HTML: self-contained, light and dark, no script, no network.

Colours come from the notebook's theme (`--jp-*`) with fallbacks that follow the browser's own
light or dark setting, so the same markup reads well in JupyterLab, in VS Code and on a page.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from nnsight_magic.magics.result import (
    Prediction,
    PromptResult,
    TraceResult,
    percent,
    visible,
)

TOKENS_SHOWN = 400
PROMPTS_SHOWN = 8

# One class around everything; nothing leaks out of it.
STYLE = """
.nnsm { --fg: var(--jp-ui-font-color1, CanvasText); --accent: var(--jp-brand-color1, #2196f3);
  --dim: var(--jp-ui-font-color2, color-mix(in srgb, CanvasText 65%, Canvas));
  --good: var(--jp-success-color1, #388e3c); --warn: var(--jp-warn-color1, #b35900);
  --faint: color-mix(in srgb, var(--fg) 10%, transparent);
  font: 13px/1.5 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--fg);
  color-scheme: light dark; max-width: 60em; padding: 2px 0 }
.nnsm .mono, .nnsm code { font-family: var(--jp-code-font-family, ui-monospace, monospace);
  font-size: 12px; color: inherit; background: none }
.nnsm .head, .nnsm th { color: var(--dim) }
.nnsm .head b { color: var(--fg) }
.nnsm .note, .nnsm code.wrote { color: var(--warn); font-size: 12px }
.nnsm .name { font-weight: 600; margin-top: 6px }
.nnsm .toks { margin: 4px 0; line-height: 1.9; overflow-wrap: anywhere }
.nnsm .t { padding: 1px; border-radius: 2px; white-space: pre-wrap;
  background: color-mix(in srgb, var(--accent) 14%, transparent) }
.nnsm .t:nth-child(even) { background: var(--faint) }
.nnsm .t i { font-style: normal; opacity: .45 }
.nnsm .new .t { background: color-mix(in srgb, var(--good) 20%, transparent) }
.nnsm .new .t:nth-child(even) { background: color-mix(in srgb, var(--good) 11%, transparent) }
.nnsm table { border-collapse: collapse; margin: 4px 0; border: 0; font-size: 12px; color: inherit }
.nnsm tr, .nnsm tr:nth-child(even), .nnsm tr:hover { background: none }
.nnsm th, .nnsm td { text-align: left; padding: 1px 12px 1px 0; border: 0; background: none;
  vertical-align: middle; white-space: nowrap }
.nnsm th { font-weight: 500 }
.nnsm td.n { text-align: right; font-variant-numeric: tabular-nums; padding-right: 6px }
.nnsm td.from { white-space: normal; overflow-wrap: anywhere }
.nnsm .bar { display: inline-block; width: 120px; height: 9px; border-radius: 2px;
  background: var(--faint) }
.nnsm .bar span { display: block; height: 100%; border-radius: 2px; background: var(--accent) }
.nnsm .bar.clean span { background: var(--jp-ui-font-color3, #8a8a8a) }
"""


def html(result: TraceResult) -> str:
    """The whole result; every text in it is escaped."""
    parts = [f"<style>{STYLE}</style>", _head(result)]
    several = len(result.prompts) > 1
    parts.extend(_prompt(each, several) for each in result.prompts[:PROMPTS_SHOWN])
    if len(result.prompts) > PROMPTS_SHOWN:
        parts.append(
            f"<div class='head'>… and {len(result.prompts) - PROMPTS_SHOWN} more prompts</div>"
        )
    if result.saved:
        parts.append(_saved(result))
    parts.extend(f"<div class='note'>{escape(notice)}</div>" for notice in result.notices)
    return f"<div class='nnsm'>{''.join(parts)}</div>"


def _head(result: TraceResult) -> str:
    facts = (
        f"<b>run {result.number}</b>",
        escape(result.model),
        escape(result.extent),
        result.time,
    )
    text = " · ".join(facts)
    if result.wrote:
        wrote = ", ".join(result.wrote[:4]) + (", …" if len(result.wrote) > 4 else "")
        text += f" · wrote <code class='wrote'>{escape(wrote)}</code>"
    return f"<div class='head'>{text}</div>"


def _prompt(each: PromptResult, several: bool) -> str:
    parts = []
    if several or each.name:
        parts.append(f"<div class='name'>{escape(each.name or 'prompt')}</div>")
    parts.append(tokens(each.tokens))
    if each.generated:
        parts.append(tokens(each.generated, "new"))
        if each.generated_clean == each.generated:
            parts.append("<div class='head'>the same without the writes</div>")
        elif each.generated_clean:
            parts.append(
                "<div class='head'>without the writes</div>" + tokens(each.generated_clean)
            )
    if each.predictions:
        parts.append(_predictions(each))
    return "".join(parts)


def tokens(texts: Iterable[str], kind: str = "") -> str:
    """Tokens one after another; blanks are to be seen, and the title tells position and text."""
    texts = list(texts)
    spans = "".join(
        f"<span class='t' title='{k}: {escape(repr(text), quote=True)}'>{_token(text)}</span>"
        for k, text in enumerate(texts[:TOKENS_SHOWN])
    )
    more = f" … {len(texts) - TOKENS_SHOWN} more" if len(texts) > TOKENS_SHOWN else ""
    return f"<div class='toks mono {kind}'>{spans}{more}</div>"


def _token(text: str) -> str:
    """The token escaped, its blanks as faint signs."""
    shown = escape(visible(text))
    for sign in "·⏎⇥␍":
        shown = shown.replace(sign, f"<i>{sign}</i>")
    return shown


def _predictions(each: PromptResult) -> str:
    if each.compared:
        head = (
            "<tr><th>next token</th><th colspan=2>with writes</th><th colspan=2>without</th></tr>"
        )
    else:
        head = "<tr><th>next token</th><th colspan=2>probability</th></tr>"
    rows = "".join(_candidate(candidate) for candidate in each.predictions)
    return f"<table>{head}{rows}</table>"


def _candidate(candidate: Prediction) -> str:
    row = f"<td><span class='t mono'>{_token(candidate.token)}</span></td>{_share(candidate.p, '')}"
    if candidate.clean is not None:
        row += _share(candidate.clean, " clean")
    return f"<tr>{row}</tr>"


def _share(p: float, kind: str) -> str:
    return (
        f"<td class='n'>{escape(percent(p))}</td><td><span class='bar{kind}'>"
        f"<span style='width:{max(0.0, min(1.0, p)) * 100:.1f}%'></span></span></td>"
    )


def _saved(result: TraceResult) -> str:
    rows = []
    for each in result.saved:
        shape = "" if each.shape is None else str(tuple(each.shape))
        kind = shape if each.kind == "tensor" else f"{each.kind} {shape}".rstrip()
        cells = (f"<b class='mono'>{escape(each.name)}</b>", escape(kind), each.dtype, each.device)
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f"<tr>{row}<td class='from'><code>{escape(each.where)}</code></td></tr>")
    head = "<tr><th>saved</th><th>shape</th><th>dtype</th><th>device</th><th>from</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"

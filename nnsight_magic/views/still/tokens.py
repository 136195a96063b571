"""Tokens, predictions and steps as static HTML and as text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from nnsight_magic.views.still.colours import css
from nnsight_magic.views.still.style import frame

if TYPE_CHECKING:
    from nnsight_magic.views.steps import StepsView
    from nnsight_magic.views.tokens import GridView, Guess, TokenStrip

TOKENS = 400
STRIPS = 8
CELLS = 900


def visible(token: str) -> str:
    """A token with its blanks to be seen: `·` for an outer space, `⏎` for a line end."""
    shown = token.replace("\r", "␍").replace("\n", "⏎").replace("\t", "⇥")
    inner = shown.strip(" ")
    if not inner:
        return "·" * len(shown) or "∅"
    left = len(shown) - len(shown.lstrip(" "))
    right = len(shown) - len(shown.rstrip(" "))
    text = "·" * left + inner + "·" * right
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def percent(p: float) -> str:
    return f"{p * 100:.1f}%" if p >= 0.0005 else "<0.1%" if p > 0 else "0%"


def strip_html(strip: TokenStrip) -> str:
    """The tokens, coloured by KL where there is one."""
    most = max([abs(each) for each in strip.kl if each == each], default=0) or 1
    spans = []
    for k, token in enumerate(strip.tokens[:TOKENS]):
        ground = "rgba(128,128,128,.18)" if k % 2 else "rgba(128,128,128,.1)"
        ink = ""
        if len(strip.kl):
            share = strip.kl[k] / most if strip.kl[k] == strip.kl[k] else 0
            ground = css(0.5 + share / 2)
            ink = ";color:#000" if share < 0.75 else ";color:#fff"
        title = escape(repr(token), quote=True)
        spans.append(
            f"<span class='t' style='background:{ground}{ink}' title='{k}: {title}'>"
            f"{escape(visible(token))}</span>"
        )
    more = f" … {len(strip.tokens) - TOKENS} more" if len(strip.tokens) > TOKENS else ""
    name = f"<b>{escape(strip.name)}</b> " if strip.name else ""
    return f"<div class='m' style='line-height:1.9'>{name}{''.join(spans)}{more}</div>"


def bar(p: float, colour: str) -> str:
    width = max(0.0, min(1.0, p)) * 100
    return (
        "<td><span style='display:inline-block;width:110px;height:9px;background:"
        "rgba(128,128,128,.16)'><span style='display:block;height:9px;"
        f"width:{width:.1f}%;background:{colour}'></span></span></td>"
    )


def guesses_html(top: Sequence[Guess], clean: Sequence[Guess]) -> str:
    """The likeliest next tokens as bars, with and without the writes."""
    without = dict(clean)
    listed = [*top, *((t, 0.0) for t, _ in clean if t not in dict(top))]
    rows = []
    for token, p in listed:
        row = f"<td class='m'>{escape(visible(token))}</td><td class='n'>{percent(p)}</td>"
        row += bar(p, "#2a6fbb")
        if clean:
            other = without.get(token)
            row += f"<td class='n'>{'' if other is None else percent(other)}</td>"
            row += bar(other or 0.0, "#8a8a8a")
        rows.append(f"<tr>{row}</tr>")
    heads = "<th>next token</th><th colspan=2>with writes</th><th colspan=2>without</th>"
    if not clean:
        heads = "<th>next token</th><th colspan=2>probability</th>"
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>"


def html(strips: Sequence[TokenStrip], title: str = "") -> str:
    parts = [f"<div><b>{escape(title)}</b></div>"] if title else []
    for strip in strips[:STRIPS]:
        parts.append(strip_html(strip))
        if len(strip.top):
            parts.append(guesses_html(strip.top[-1], strip.clean[-1] if len(strip.clean) else ()))
    if len(strips) > STRIPS:
        parts.append(f"<div class='d'>… and {len(strips) - STRIPS} more prompts</div>")
    return frame("".join(parts))


def text(strips: Sequence[TokenStrip]) -> str:
    """Tokens between bars, and the best guess after the last."""
    lines = []
    for strip in strips:
        line = (f"{strip.name}: " if strip.name else "") + "|".join(map(visible, strip.tokens))
        if len(strip.top) and strip.top[-1]:
            token, p = strip.top[-1][0]
            line += f" → {visible(token)} {percent(p)}"
        lines.append(line)
    return "\n".join(lines)


def grid_html(view: GridView) -> str:
    """The best token of each place, coloured by its probability."""
    tokens = view.strips[0].tokens if view.strips else ()
    width = min(len(tokens), 40)
    head = "".join(f"<th class='m'>{escape(visible(token)[:9])}</th>" for token in tokens[:width])
    lines = []
    for strip in view.strips[: max(1, CELLS // max(1, width))]:
        cells = []
        for top in strip.top[:width]:
            token, p = top[0] if top else ("", 0.0)
            ink = "#fff" if p > 0.45 else "#000"
            ground = css(p, "sequential")
            cells.append(
                f"<td class='m' style='background:{ground};color:{ink};padding:0 3px' "
                f"title='{percent(p)}'>{escape(visible(token)[:9])}</td>"
            )
        lines.append(f"<tr><th>{escape(strip.name)}</th>{''.join(cells)}</tr>")
    title = f"<div><b>{escape(view.title)}</b></div>" if view.title else ""
    return frame(f"{title}<table><tr><th></th>{head}</tr>{''.join(lines)}</table>")


def steps_html(view: StepsView) -> str:
    """The prompt faint, the generated tokens with their probabilities as titles."""
    before = "".join(f"<span class='d'>{escape(visible(token))}</span>" for token in view.prompt)
    after = "".join(
        f"<span class='t' style='background:rgba(42,111,187,{0.12 + 0.12 * (k % 2)})' "
        f"title='step {k}: {percent(step.p) if step.p is not None else ''}'>"
        f"{escape(visible(step.token))}</span>"
        for k, step in enumerate(view.all_steps)
    )
    last = guesses_html(view.all_steps[0].candidates, ()) if view.all_steps else ""
    return frame(f"<div class='m' style='line-height:1.9'>{before}{after}</div>{last}")

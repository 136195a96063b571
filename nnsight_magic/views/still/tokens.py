"""Tokens, predictions and steps as static HTML and as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnsight_magic.printable import escape
from nnsight_magic.views.data.colouring import Limits
from nnsight_magic.views.data.strips import Guess, Step, TokenStrip
from nnsight_magic.views.data.words import bar, number, percent, step_text, visible
from nnsight_magic.views.still.colours import shade, shade_rules
from nnsight_magic.views.still.style import frame, instead

TOKENS = 400
STRIPS = 8
LEAST_KL = 0.1  # nats: a prediction that hardly moved is not to look as if it had
SIGNS = "·⏎⇥␍∅"
BAR = 10  # characters of a bar, where it is text
LARGEST = 5  # tokens whose numbers are written where there are no colours

# One tint for all, new ones another: what alternates reads as data. A gap ends a token.
OLD, NEW = "rgba(128,128,128,.14)", "rgba(33,130,230,.18)"
# Colours of their own, not the theme's: JupyterLab takes variables out of what it does not trust.
WITH, WITHOUT = "rgba(33,130,230,.95)", "rgba(128,128,128,.75)"
LEFT = "style='text-align:left'"  # there its own tables stand to the right


def token_html(token: str, style: str = "", title: str = "", kind: str = "") -> str:
    """One token as it is, its blanks as faint signs; `kind` is a class of its shade."""
    shown = escape(visible(token))
    for sign in SIGNS:
        shown = shown.replace(sign, f"<i style='font-style:normal;opacity:.5'>{sign}</i>")
    told = f" title='{escape(title, quote=True)}'" if title else ""
    kind = f"t m {kind}".rstrip()
    return f"<span class='{kind}' style='{style}'{told}>{shown}</span>"


def strip_html(strip: TokenStrip, coloured: str = "", limits: Limits = (0.0, 1.0)) -> str:
    """The tokens, coloured by the numbers of that name where there are some."""
    first_new = len(strip.tokens) - strip.generated
    values = numbers_of(strip, coloured)
    shown = strip.tokens[:TOKENS]
    palette = "diverging" if limits[0] < 0 else "sequential"
    spans = []
    for k, token in enumerate(shown):
        title = f"{k}: {token!r}"
        style = f"background:{NEW if k >= first_new else OLD}"
        kind = ""
        if len(values) and math.isfinite(values[k]):
            kind, style = shade((values[k] - limits[0]) / (limits[1] - limits[0]), palette)
            title += f" · {coloured} {number(values[k])}"
        spans.append(token_html(token, style, title, kind))
    more = f" … {len(strip.tokens) - TOKENS} more" if len(strip.tokens) > TOKENS else ""
    name = f"<b>{escape(strip.name)}</b> " if strip.name else ""
    text = "".join(spans[:first_new]) + _new("".join(spans[first_new:]))
    told = instead(_largest(shown, values, coloured), "div") if len(values) else ""
    return f"<div style='line-height:1.9'>{name}{text}{more}</div>{told}"


def _new(spans: str) -> str:
    """New tokens, which a tint tells from the others; where there is none, bold print does."""
    return f"<b style='font-weight:inherit'>{spans}</b>" if spans else ""


def _largest(tokens: Sequence[str], values: Sequence[float], name: str) -> str:
    """In words, where colours are largest."""
    known = [k for k in range(len(tokens)) if math.isfinite(values[k])]
    first = sorted(known, key=lambda k: -abs(values[k]))[:LARGEST]
    told = ", ".join(f"{visible(tokens[k])} {number(values[k])}" for k in first)
    return escape(f"largest {name}: {told}")


def bar_html(p: float, colour: str) -> str:
    """A bar; as text where a page takes styles away."""
    width = max(0.0, min(1.0, p)) * 100
    return (
        "<td><span style='display:inline-block;width:110px;height:9px;border-radius:2px;"
        "background:rgba(128,128,128,.16)'><span style='display:block;height:9px;"
        f"border-radius:2px;width:{width:.1f}%;background:{colour}'></span></span>"
        f"{instead(bar(p, BAR).rstrip())}</td>"
    )


def guesses_html(
    top: Sequence[Guess],
    clean: Sequence[Guess],
    head: str = "next token",
    heads: tuple[str, str] = ("with writes", "without"),
) -> str:
    """The likeliest next tokens as bars, with and without the writes."""
    now, without = dict(top), dict(clean)
    listed = [*now, *(token for token in without if token not in now)]
    rows = []
    for token in listed:
        row = f"<td {LEFT}>{token_html(token, f'background:{OLD}')}</td>"
        for shares, colour in ((now, WITH), (without, WITHOUT))[: 2 if clean else 1]:
            p = shares.get(token)
            row += (
                f"<td class='n'>{'–' if p is None else percent(p)}</td>{bar_html(p or 0.0, colour)}"
            )
        rows.append(f"<tr>{row}</tr>")
    over = "".join(f"<th colspan=2 {LEFT}>{escape(each)}</th>" for each in heads)
    if not clean:
        over = f"<th colspan=2 {LEFT}>probability</th>"
    return f"<table><tr><th {LEFT}>{head}</th>{over}</tr>{''.join(rows)}</table>"


def numbers_of(strip: TokenStrip, name: str) -> Sequence[float]:
    """One number a token, by name; none where the strip has no such."""
    return strip.kl if name == "KL" and len(strip.kl) else strip.named.get(name, ())


def limits_of(strips: Sequence[TokenStrip], name: str) -> Limits:
    """As the live view has them: around zero where signs differ. A divergence that rounding has
    made a little less than zero is none of the other sign."""
    known = [float(v) for s in strips for v in numbers_of(s, name) if math.isfinite(v)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(0.0, *known)
    if low < -1e-4 * abs(high):
        return -max(-low, high), max(-low, high)
    return 0.0, max(high, LEAST_KL if name == "KL" else 0.0) or 1.0


def html(
    strips: Sequence[TokenStrip], title: str = "", token: int = -1, coloured: str = "KL"
) -> str:
    """Each prompt with what is predicted after `token`, after the last one where it has none."""
    parts = [f"<div><b>{escape(title)}</b></div>"] if title else []
    limits = limits_of(strips, coloured)
    if any(len(numbers_of(strip, coloured)) for strip in strips):
        parts.append(shade_rules("diverging" if limits[0] < 0 else "sequential"))
        low, high = map(number, limits)
        unit = " nats" * (coloured == "KL")
        # The words "coloured by" come with the colours, by a rule of the style.
        scale = f"{escape(coloured)}, {low} to {high}{unit}"
        parts.append(f"<div class='d by'>{scale}</div>")
    for strip in strips[:STRIPS]:
        parts.append(strip_html(strip, coloured, limits))
        last = len(strip.tokens) - 1 - strip.generated
        at = token if 0 <= token < len(strip.tokens) else last
        if 0 <= at < len(strip.top) and strip.top[at]:
            parts.append(_after(strip, at))
            clean = strip.clean[at] if len(strip.clean) else ()
            parts.append(guesses_html(strip.top[at], clean, heads=strip.heads))
    if len(strips) > STRIPS:
        parts.append(f"<div class='d'>… and {len(strips) - STRIPS} more prompts</div>")
    return frame("".join(parts))


def _after(strip: TokenStrip, at: int) -> str:
    shown = token_html(strip.tokens[at], f"background:{OLD}")
    known = at < len(strip.kl) and strip.kl[at] == strip.kl[at]
    kl = f" KL {number(strip.kl[at])}" if known else ""
    return f"<div class='d'>after token {at} {shown}{kl}</div>"


def text(strips: Sequence[TokenStrip]) -> str:
    """Tokens between bars, and the best guess after the last."""
    lines = []
    for strip in strips[:STRIPS]:
        line = (f"{strip.name}: " if strip.name else "") + "|".join(map(visible, strip.tokens))
        if len(strip.top) and strip.top[-1]:
            token, p = strip.top[-1][0]
            line += f" → {visible(token)} {percent(p)}"
        lines.append(line)
    if len(strips) > STRIPS:
        lines.append(f"… and {len(strips) - STRIPS} more prompts")
    return "\n".join(lines)


def steps_html(
    prompt: Sequence[str], steps: Sequence[Step], title: str = "", step: int = -1
) -> str:
    """The prompt faint, the new tokens, and the candidates of `step`, else of the last one.

    That is the step that the live view is at, too.
    """
    name = f"<b>{escape(title)}</b> " if title else ""
    before = "".join(token_html(token) for token in prompt[-TOKENS:])
    if len(prompt) > TOKENS:
        before = "… " + before
    after = "".join(
        token_html(
            each.token,
            f"background:{NEW}",
            f"step {k}: {each.token!r}" + ("" if each.p is None else f" {percent(each.p)}"),
        )
        for k, each in enumerate(steps[:TOKENS])
    )
    more = f" … {len(steps) - TOKENS} more" if len(steps) > TOKENS else ""
    told = ""
    if steps:
        at = step if 0 <= step < len(steps) else len(steps) - 1
        chosen = steps[at]
        p = "" if chosen.p is None else f" <b>{percent(chosen.p)}</b>"
        told = (
            f"<div><span class='d'>{step_text(at, len(steps))}</span> "
            f"{token_html(chosen.token, f'background:{NEW}')}{p}</div>"
        )
        if chosen.candidates:
            told += guesses_html(chosen.candidates, (), "candidates")
    return frame(
        f"<div style='line-height:1.9'>{name}<span class='d'>{before}</span>"
        f"{_new(after)}{more}</div>" + told
    )

"""Makes the pictures of the views that the documentation shows, in JupyterLab on the demo model.

    make screenshots

Every view is taken in the light and in the dark theme, in a notebook of ordinary width; `--narrow`
takes them at 60 % of it, into another folder, to look at.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.lab import ARGUMENTS, CHROMIUM, Notebook, serving  # noqa: E402

WIDTH = 1240
MOST = 150_000  # bytes of a picture

SETUP = """
import torch
from nnsight_magic.views import *
from nnsight_magic.loading.load import open_source
from nnsight_magic import LanguageModel, analyses
traced = LanguageModel("demo", dispatch=True)
source = open_source("demo")
model, tokenizer = source.weights(), source.tokenizer
model.set_attn_implementation("eager")
def top(logits, count=5):
    best = logits.float().softmax(-1).topk(count)
    return [[(tokenizer.decode([i]), float(p)) for i, p in zip(ids, ps)]
            for ids, ps in zip(best.indices.tolist(), best.values.tolist())]
ids = tokenizer("The Eiffel Tower is in the city of", return_tensors="pt")["input_ids"]
tokens = [tokenizer.decode([i]) for i in ids[0]]
sizes = {"feature": 576, "head": 9, "vocabulary": 49152}
with torch.no_grad():
    clean = model(ids, output_hidden_states=True, output_attentions=True)
    hook = model.model.layers[22].mlp.register_forward_hook(lambda *a: torch.zeros_like(a[2]))
    now = model(ids, output_hidden_states=True)
    hook.remove()
    made = model.generate(ids, max_new_tokens=12, do_sample=False, output_scores=True,
                          return_dict_in_generate=True)
before, after = clean.logits[0].log_softmax(-1), now.logits[0].log_softmax(-1)
kl = (after.exp() * (after - before)).sum(-1).tolist()
aliases = {"model.layers": "layers", "lm_head": "unembed", "model.embed_tokens": "embed"}
hidden = f"(1, {len(tokens)}, 576)"
notes = {f"model.layers.{k}": ModuleNote(hidden, hidden, idle=k > 24) for k in range(30)}
notes |= {f"model.layers.{k}.{part}": ModuleNote(hidden, hidden, idle=k > 24)
          for k in range(30) for part in ("mlp", "self_attn")}
notes["model.layers.20"] = ModuleNote(hidden, hidden, saved=("resid",))
notes["model.layers.22.mlp"] = ModuleNote(hidden, hidden, wrote=True)
strip = TokenStrip(tokens, top=top(now.logits[0]), clean=top(clean.logits[0]), kl=kl)
"""
# Each picture: its name, the cell that makes the view, and what is done to it before.
PICTURES = {
    "tree": (
        'view = tree_view(model, "SmolLM2-135M", aliases=aliases, notes=notes)\n'
        'view.expanded = ["", "model", "model.layers", "model.layers.22"]\n'
        'view.selection.module = "model.layers.22.mlp.down_proj"\nview'
    ),
    "attention": 'show(clean.attentions[20], "attention", tokens=tokens, sizes=sizes)',
    "residual": (
        'view = show(clean.hidden_states[21], "resid", tokens=tokens, sizes=sizes,\n'
        '            expression="layers[20].output")\n'
        "view.cell = [0, 6, 212]\nview"
    ),
    "tokens": 'tokens_view(strip, "what layers[22].mlp does")',
    "lens": (
        'found = analyses.lens(traced, "The Eiffel Tower is in the city of", " Paris")\n'
        "found.view(settled=True)"
    ),
    "heads": (
        "view = analyses.attention(traced, induction=True).view()\n"
        "view.chosen = [[18, 6], [17, 4], [17, 5]]\nview.selection.token = 33\nview"
    ),
    "steps": (
        "steps = [Step(guesses[0][0], guesses[0][1], guesses, saved=['resid'])\n"
        "         for guesses in (top(scores)[0] for scores in made.scores)]\n"
        'view = StepsView(tokens, steps, "a generation")\nview.selection.step = 3\nview'
    ),
    "compare": (
        'compare(clean.hidden_states[25], now.hidden_states[25], "layers[24].output",\n'
        '        tokens=tokens, sizes=sizes, names=("clean", "without the MLP"))'
    ),
}
README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)[
    :2
]
DETAILS = 'view = show(clean.hidden_states[21], "resid", tokens=tokens, sizes=sizes)\nview'


def shrunk(png: bytes) -> bytes:
    """The picture in at most 256 colours, which is a third of its bytes."""
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def take(notebook: Notebook, folder: Path, theme: str, only: list[str]) -> None:
    """A picture of every view, or of those alone, named by its place in the notebook."""
    page = notebook.page
    notebook.theme(f"JupyterLab {theme.capitalize()}")
    views = page.locator(".jp-OutputArea-output .nnv")
    names = [*PICTURES, "details"]
    for place, name in enumerate(names):
        if only and name not in only:
            continue
        view = views.nth(place)
        view.evaluate("view => view.scrollIntoView({block: 'center'})")
        if name == "details" and not view.locator(".nnv-details").count():
            view.get_by_role("button", name="statistics").click()
        view.evaluate("view => view.scrollIntoView({block: 'center'})")
        page.mouse.move(5, 5)
        page.wait_for_timeout(700)  # until its tiles have come
        keep(page, view.bounding_box(), folder / f"{name}-{theme}.png")


def keep(page: Any, box: dict[str, float], path: Path) -> None:
    """Write what stands in a box of the page, with a margin around it."""
    clip = {k: box[k] - 5 for k in ("x", "y")} | {k: box[k] + 10 for k in ("width", "height")}
    picture = shrunk(page.screenshot(clip=clip))
    path.write_bytes(picture)
    note = "" if len(picture) <= MOST else "  TOO LARGE"
    print(f"{path.name:24} {len(picture) / 1000:6.1f} kB{note}")


def take_cell(notebook: Notebook, folder: Path, theme: str) -> None:
    """The README's cell as a reader would see it: what is typed, and below it what comes out."""
    page = notebook.page
    notebook.theme(f"JupyterLab {theme.capitalize()}")
    page.add_style_tag(content=".jp-cell-toolbar, .jp-Collapser { visibility: hidden }")
    cell = page.locator(".jp-Notebook-cell").nth(1)
    typed, shown = cell.locator(".jp-InputArea"), cell.locator(".jp-OutputArea-output .nnv").first
    typed.evaluate("part => part.scrollIntoView({block: 'start'})")
    page.mouse.move(5, 5)
    page.wait_for_timeout(700)  # until its tiles have come
    above, below = typed.bounding_box(), shown.bounding_box()
    height = below["y"] + below["height"] - above["y"]
    keep(page, above | {"height": height}, folder / f"result-{theme}.png")


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--narrow", action="store_true")
    parser.add_argument("--only", nargs="*", default=[], help="the names of pictures to take")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as lab, sync_playwright() as p:
        lab.notebook("views.ipynb", [SETUP, *PICTURES.values(), DETAILS])
        browser: Any = p.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        width = WIDTH * 6 // 10 if options.narrow else WIDTH
        page = browser.new_page(viewport={"width": width, "height": 1400})
        notebook = Notebook(page).open(lab.address("views.ipynb"))
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        notebook.run_all()
        for theme in ("light", "dark"):
            take(notebook, options.into, theme, options.only)
        if not options.only or "result" in options.only:
            lab.notebook("cell.ipynb", [each.rstrip() for each in README])
            notebook = Notebook(page).open(lab.address("cell.ipynb"))
            notebook.run_all()
            for theme in ("light", "dark"):
                take_cell(notebook, options.into, theme)
        browser.close()


if __name__ == "__main__":
    main()

"""What the views cost: bytes in a notebook, time to the first picture, time to answer.

    make bench-views

Wall-clock time on this machine, medians of several; pages are opened in a headless Chromium that
draws without a graphics card, and a blank page's time is taken off. Other libraries stand beside
ours as they come where they are installed (`make bench-views` installs them apart from everything
else, and does without those that it cannot have).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.pages import blank, browsing, drawn, opened
from nnsight_magic.views import GridView, TensorView, show, tree_view
from nnsight_magic.views.display import still_bundle

TOKENS = [f" t{k}" for k in range(64)]


def attention() -> torch.Tensor:
    """Causal attention of 12 heads, `(12, 64, 64)`."""
    torch.manual_seed(0)
    hidden = torch.ones(64, 64).triu(1).bool()
    return torch.softmax((torch.randn(12, 64, 64) * 2).masked_fill(hidden, -1e9), -1)


def square() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(1024, 1024)


def in_notebook(view: Any) -> tuple[int, int]:
    """Bytes that a view adds to a notebook: with its outputs alone, and with stored state too.

    The views' code, once a notebook, is left out of the second.
    """
    outputs = len(json.dumps(still_bundle(view))) + 200
    state = view.get_state()
    binary = sum(len(each) * 4 / 3 + 60 for each in state.values() if isinstance(each, bytes))
    plain = {k: v for k, v in state.items() if not isinstance(v, bytes)}
    return outputs, int(outputs + binary + len(json.dumps(plain, default=str)))


def median(job: Callable[[], Any], rounds: int = 7) -> float:
    """Milliseconds."""
    taken = []
    job()
    for _ in range(rounds):
        began = time.perf_counter()
        job()
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)


# -- ours -------------------------------------------------------------------------------------


def first_paint() -> list[tuple[str, str, str]]:
    """What the kernel does and sends before a 4096 × 4096 tensor can be drawn."""
    tensor = torch.randn(4096, 4096)
    taken = median(lambda: show(tensor))
    state = show(tensor).get_state()
    plain = {k: v for k, v in state.items() if not isinstance(v, bytes)}
    size = len(json.dumps(plain, default=str))
    size += sum(len(v) for v in state.values() if isinstance(v, bytes))
    return [
        ("4096 × 4096: kernel's time to what is drawn first", f"{taken:.0f} ms", "100 ms"),
        ("4096 × 4096: sent for it", f"{size / 1e3:.0f} kB", "300 kB"),
    ]


def grid() -> list[tuple[str, str, str]]:
    top = [
        [
            [(f" word{(r * 7 + p * 3 + k) % 4000}", 0.2 / (k + 1)) for k in range(5)]
            for p in range(30)
        ]
        for r in range(30)
    ]
    outputs, all_of_it = in_notebook(GridView(top, [f" t{k}" for k in range(30)], title="lens"))
    return [
        ("30 × 30 lens grid with top 5: in the notebook", f"{outputs / 1e3:.0f} kB", "150 kB"),
        ("… and with stored state", f"{all_of_it / 1e3:.0f} kB", "150 kB"),
    ]


def forest() -> torch.nn.Module:
    """100,000 modules, of which nothing is folded away as alike."""
    root = torch.nn.Module()
    for k in range(400):
        children = [torch.nn.Identity() for _ in range(49 + k)]
        root.add_module(f"part{k}", torch.nn.Sequential(*children, torch.nn.Linear(2, k + 1)))
    return root


def tree(browser: Any, folder: Path, base: float) -> list[tuple[str, str, str]]:
    model = forest()
    view = tree_view(model, "100,000 modules")
    path = folder / "tree.html"
    view.save_html(path)
    ready = drawn(browser, path)
    parts = [each for k in range(400) for each in (f"part{k}", f"part{k}.0…{48 + k}")]
    view.expanded = ["", *parts]
    view.save_html(path)
    page, _ = opened(browser, path)
    frames = page.evaluate(
        """async () => {
            const rows = document.querySelector('[role=tree]');
            const times = [];
            let last = await new Promise(requestAnimationFrame);
            for (let k = 0; k < 120; k++) {
                rows.scrollTop += 70;
                const now = await new Promise(requestAnimationFrame);
                times.push(now - last);
                last = now;
            }
            return times.sort((a, b) => a - b);
        }"""
    )
    page.close()
    sent = len(view.packed)
    return [
        ("100,000 modules: sent", f"{sent / 1e3:.0f} kB", "200 kB"),
        ("100,000 modules: drawn, beyond a blank page", f"{ready - base:.0f} ms", "100 ms"),
        (
            "100,000 rows: a frame while scrolling, median and 95th of 100",
            f"{statistics.median(frames):.1f} and {frames[int(len(frames) * 0.95)]:.1f} ms",
            "16.7 ms",
        ),
    ]


def recoloured(browser: Any, folder: Path) -> list[tuple[str, str, str]]:
    path = folder / "square.html"
    show(square(), "square").save_html(path)
    page, _ = opened(browser, path)
    taken = [
        page.evaluate(
            """async palette => {
                const canvas = document.querySelector('canvas.nnv-heat');
                const colours = document.querySelector('select[aria-label=colours]');
                const context = canvas.getContext('2d');
                const pixel = () => context.getImageData(200, 200, 40, 1).data.join();
                const before = pixel();
                const began = performance.now();
                colours.value = palette;
                colours.dispatchEvent(new Event('change', {bubbles: true}));
                while (pixel() === before && performance.now() - began < 5000)
                    await new Promise(go => setTimeout(go));
                return performance.now() - began;
            }""",
            palette,
        )
        for palette in ("grey", "diverging", "sequential", "grey", "diverging")
    ]
    page.close()
    return [("1024 × 1024 recoloured", f"{statistics.median(taken):.0f} ms", "50 ms")]


def sliced(browser: Any) -> list[tuple[str, str, str]]:
    """A slider of a (30, 12, 64, 64) tensor in JupyterLab, until the new picture is drawn."""
    from tests.browser.lab import Notebook, serving

    cell = (
        "import torch\nfrom nnsight_magic.views import show\n"
        "show(torch.randn(30, 12, 64, 64), 'four')"
    )
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as lab:
        lab.notebook("four.ipynb", [cell])
        page = browser.new_page()
        Notebook(page).open(lab.address("four.ipynb")).run_all()
        page.wait_for_selector("canvas.nnv-heat")
        page.wait_for_timeout(1500)
        taken = [
            page.evaluate(
                """async place => {
                    const canvas = document.querySelector('canvas.nnv-heat');
                    const slider = document.querySelector('.nnv-axis input[type=range]');
                    const context = canvas.getContext('2d');
                    const pixels = () => context.getImageData(60, 60, 200, 1).data.join();
                    const before = pixels();
                    const began = performance.now();
                    slider.value = place;
                    slider.dispatchEvent(new Event('input', {bubbles: true}));
                    while (pixels() === before && performance.now() - began < 5000)
                        await new Promise(go => setTimeout(go));
                    return performance.now() - began;
                }""",
                place,
            )
            for place in range(1, 16)
        ]
        page.close()
    answer = f"{statistics.median(taken):.0f} ms"
    return [("a slider of (30, 12, 64, 64), question and answer", answer, "50 ms")]


# -- beside others ----------------------------------------------------------------------------


def ours(values: torch.Tensor, path: Path) -> int:
    tokens = TOKENS if len(TOKENS) in values.shape else None
    view = TensorView(values, "values", tokens=tokens)
    view.save_html(path)
    return in_notebook(view)[1]


def treescope(values: torch.Tensor, path: Path) -> int:
    import treescope

    return _written(treescope.render_array(values.numpy())._repr_html_(), path)


def circuitsvis(values: torch.Tensor, path: Path) -> int:
    import circuitsvis

    if values.ndim < 3:
        raise NotImplementedError("no view of a matrix")
    return _written(str(circuitsvis.attention.attention_patterns(TOKENS, values)), path)


def bertviz(values: torch.Tensor, path: Path) -> int:
    import bertviz

    if values.ndim < 3:
        raise NotImplementedError("no view of a matrix")
    return _written(bertviz.head_view([values[None]], TOKENS, html_action="return").data, path)


def plotly(values: torch.Tensor, path: Path) -> int:
    import plotly.express

    options = {"animation_frame": 0} if values.ndim == 3 else {}
    figure = plotly.express.imshow(values.numpy(), **options)
    return _written(figure.to_html(include_plotlyjs=True), path)


def _written(html: str, path: Path) -> int:
    path.write_text(html, encoding="utf-8")
    return len(html.encode())


def beside(browser: Any, folder: Path, base: float) -> list[str]:
    """Markdown: bytes in a notebook and time until something is drawn, for two tensors."""
    lines = [
        "| | 12 × 64 × 64: bytes | made | drawn | 1024 × 1024: bytes | made | drawn |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for library in (ours, treescope, circuitsvis, bertviz, plotly):
        cells = [library.__name__]
        for values in (attention(), square()):
            path = folder / f"{library.__name__}{values.ndim}.html"
            try:
                library(values, path)
                began = time.perf_counter()
                size = library(values, path)
                made = (time.perf_counter() - began) * 1e3
            except Exception as error:  # as they come: what does not run is told, not mended
                cells += [type(error).__name__, "", ""]
                continue
            ready = drawn(browser, path)
            shown = "blank" if ready is None else f"{max(0, ready - base):.0f} ms"
            cells += [f"{size / 1e3:,.0f} kB", f"{made:.0f} ms", shown]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--others", help="a folder that other libraries were installed into")
    options = parser.parse_args()
    if options.others:
        sys.path.append(options.others)
    torch.set_num_threads(2)
    with browsing() as browser, tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        base = blank(browser, folder)
        outputs, stored = in_notebook(show(attention(), "attention", tokens=TOKENS))
        rows = [
            *first_paint(),
            ("12 × 64 × 64 attention: in the notebook", f"{outputs / 1e3:.0f} kB", "60 kB"),
            ("… and with stored state", f"{stored / 1e3:.0f} kB", "60 kB"),
            *grid(),
            *tree(browser, folder, base),
            *recoloured(browser, folder),
            *sliced(browser),
        ]
        print("| what | measured | wanted |\n|---|---:|---:|")
        for row in rows:
            print("| " + " | ".join(row) + " |")
        print(f"\nOf a blank page: {base:.0f} ms, which is taken off below.\n")
        print("\n".join(beside(browser, folder, base)))


if __name__ == "__main__":
    main()

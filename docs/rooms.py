"""Draws the rooms of the package and of the engine, and which imports which, from the imports.

    python -m docs.rooms

The picture is `docs/images/rooms.svg`, which docs/architecture.md shows; a test fails where it is
no longer what the imports are. The order from the top down is that of the contracts in
pyproject.toml, what each room is for is said in the tables of docs/architecture.md.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "nnsight_magic"
PICTURE = ROOT / "docs" / "images" / "rooms.svg"
PAGE = ROOT / "docs" / "architecture.md"
FILES = "files of their own"  # modules of the package that are in no folder, drawn as one room

WIDTH, BOX, HIGH, GAP, TOP = 1010, 330, 40, 14, 56
COLOURS = ("#2f6fb5", "#c2571a", "#3c8c40", "#a23b8f", "#8a6d1d", "#1c8a8a", "#b03a48", "#6a5acd")
HEAD = (
    '<marker id="to{0}" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="8" markerHeight="8" '
    'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L6 3L0 6z" '
    'style="fill:{1};opacity:1"/></marker>'
)
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #222 }
.name { font-weight: 600 }
.idea, .note { font-size: 11px; fill: #555 }
.head { font-size: 15px; font-weight: 600 }
rect { fill: #f4f5f7; stroke: #c3c8d0 }
path { fill: none; stroke-width: 1.5; opacity: .8 }
.ground { fill: #fff; stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e6ea }
  .idea, .note { fill: #a9aeb8 }
  rect { fill: #22262e; stroke: #48505e }
  .ground { fill: #14171c }
}
"""


def imports_of(path: Path, module: str) -> Iterator[str]:
    """The modules that a file imports: at once, late, and for types alone.

    Args:
        path: the file.
        module: its dotted name, from which relative imports count.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{each.name}" for each in node.names)


def edges(package: Path, prefix: str, rooms: list[str]) -> list[tuple[str, str]]:
    """Which rooms import which, in the order of the rooms.

    Args:
        package: the folder that has the rooms in it.
        prefix: its dotted name.
        rooms: names of folders in it, or `FILES` for the modules beside them.
    """

    def room_of(module: str) -> str | None:
        if not module.startswith(f"{prefix}."):
            return None
        inside = module.removeprefix(f"{prefix}.").split(".")[0]
        if (package / f"{inside}.py").exists() and inside != "__init__":  # which imports for users
            inside = FILES
        return inside if inside in rooms else None

    found: set[tuple[str, str]] = set()
    for path in package.rglob("*.py"):
        module = ".".join([prefix, *path.relative_to(package).with_suffix("").parts])
        source = room_of(module)
        for name in imports_of(path, module) if source else ():
            target = room_of(name)
            if source and target and target != source:
                found.add((source, target))
    return sorted(found, key=lambda pair: [rooms.index(room) for room in pair])


def layers() -> tuple[list[str], list[str]]:
    """The rooms of the package and of the engine from the top down, as the contracts have them."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = known["tool"]["importlinter"]["contracts"]
    names = [
        [name for layer in contract["layers"] for name in re.split(r"\s*[|:]\s*", layer)]
        for contract in contracts[:2]
    ]
    folders = [name for name in names[0] if (ROOT / PACKAGE / name / "__init__.py").exists()]
    return [*folders, FILES], names[1]


def ideas(files: list[str]) -> dict[str, str]:
    """What each room is for, from the page's tables; of files of their own, their names."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)(?:/src)?/` \| (.*?) \|", text, re.M)
    return {name: idea.replace("`", "") for name, idea in rows} | {FILES: ", ".join(files)}


def clipped(text: str, most: int) -> str:
    """A text of at most so many characters, ended at a word."""
    if len(text) <= most:
        return text
    return text[:most].rpartition(" ")[0].rstrip(",;:") + " …"


def column(
    x: int, title: str, rooms: list[str], found: list[tuple[str, str]], said: dict[str, str]
) -> str:
    """Rooms one under the other, and beside them an arc for every room that imports another.

    Arcs down are on the right; one up, which the contracts refuse, is on the left.
    """
    middle = {room: TOP + k * (HIGH + GAP) + HIGH / 2 for k, room in enumerate(rooms)}
    rows = [f'<text class="head" x="{x}" y="{TOP - 22}">{escape(title)}</text>']
    for room in rooms:
        y = middle[room] - HIGH / 2
        rows.append(f'<rect x="{x}" y="{y:g}" width="{BOX}" height="{HIGH}" rx="6"/>')
        rows.append(f'<text class="name" x="{x + 10}" y="{y + 16:g}">{escape(room)}</text>')
        idea = escape(clipped(said.get(room, ""), 50))
        rows.append(f'<text class="idea" x="{x + 10}" y="{y + 32:g}">{idea}</text>')
    for source, target in found:
        number = rooms.index(source) % len(COLOURS)
        way = 1 if middle[target] > middle[source] else -1
        edge = x + BOX if way > 0 else x
        begin, end = middle[source] + 7 * way, middle[target] - 7 * way
        far = edge + way * (18 + 26 * abs(rooms.index(target) - rooms.index(source)) ** 0.85)
        rows.append(
            f'<path d="M{edge} {begin:g} C{far:.1f} {begin:g} {far:.1f} {end:g} {edge} {end:g}" '
            f'stroke="{COLOURS[number]}" marker-end="url(#to{number})">'
            f"<title>{escape(f'{source} imports {target}')}</title></path>"
        )
    return "\n".join(rows)


def drawing() -> str:
    """The picture as SVG, from the imports as they are now."""
    package, engine = layers()
    files = sorted(each.stem for each in (ROOT / PACKAGE).glob("*.py") if each.stem[0] != "_")
    said = ideas(files)
    outside = edges(ROOT / PACKAGE, PACKAGE, package)
    inside = edges(ROOT / PACKAGE / "engine", f"{PACKAGE}.engine", engine)
    tall = TOP + max(len(package), len(engine)) * (HIGH + GAP) + 34
    heads = "".join(HEAD.format(k, colour) for k, colour in enumerate(COLOURS))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall}" role="img" '
        'aria-label="The rooms of the package and of its engine, and which imports which">',
        f"<style>{STYLE}</style><defs>{heads}</defs>",
        f'<rect class="ground" width="{WIDTH}" height="{tall}"/>',
        column(24, "nnsight_magic/", package, outside, said),
        column(520, "nnsight_magic/engine/", engine, inside, said),
        f'<text class="note" x="24" y="{tall - 14}">An arc from one room to another: it imports '
        "from there, at once, late or for types.</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} is drawn.")

"""Writes the views' colours from their one place in Python into the front end.

    python widgets/palette.py

`make palette` calls this.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

WIDGETS = Path(__file__).parent
SOURCE = WIDGETS.parent / "nnsight_magic" / "views" / "still" / "palette.py"
WRITTEN = WIDGETS / "src" / "core" / "palette.ts"
WIDTH = 120  # of a line, as in biome.jsonc


def typescript(colours: dict[str, Any]) -> str:
    """The colours as a module of TypeScript.

    Args:
        colours: what `palette.py` binds: the scales `LIGHT` and `DARK` as `rrggbb` by name, and the
            marks `NAN`, `PLUS` and `MINUS` as red, green and blue.
    """
    lines = [
        "// Written by `make palette` from nnsight_magic/views/still/palette.py: change it there.",
        "",
        "export const SCALES = {",
    ]
    for name in colours["LIGHT"]:
        scales = [
            f"{ground}: {json.dumps([f'#{point}' for point in colours[ground.upper()][name]])}"
            for ground in ("light", "dark")
        ]
        line = f"  {name}: {{ {', '.join(scales)} }},"
        if len(line) <= WIDTH:
            lines.append(line)
        else:
            lines += [f"  {name}: {{", *(f"    {each}," for each in scales), "  },"]
    lines += ["} as const;", ""]
    for mark in ("NAN", "PLUS", "MINUS"):
        lines.append(f"export const {mark} = {json.dumps(list(colours[mark]))} as const;")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the file."""
    WRITTEN.write_text(typescript(runpy.run_path(str(SOURCE))), encoding="utf-8")


if __name__ == "__main__":
    main()

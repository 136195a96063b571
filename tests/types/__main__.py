"""`make types`: check the types, and say where the errors are.

python -m tests.types          fails if there are more errors than there may be
python -m tests.types --lower  sets the number to what was found, if that is less
"""

from __future__ import annotations

import sys

from tests.types.checker import Ceiling, check


def main(arguments: list[str]) -> int:
    ceiling, found = Ceiling.read(), check()
    broken = ceiling.broken_by(found)
    if broken:
        print(*broken, sep="\n")
        return 1
    if "--list" in arguments:
        print(*found.errors, sep="\n")
    for folder, count in sorted(found.by_folder().items()):
        print(f"{count:5} {folder}")
    print(f"{len(found.errors):5} errors in all; there may be {ceiling.errors}.")
    if len(found.errors) < ceiling.errors and "--lower" in arguments:
        ceiling._replace(errors=len(found.errors)).write()
        print(f"From now on there may be {len(found.errors)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m nnsight_magic doctor`: what is wrong with this installation, and what mends it."""

from __future__ import annotations

import argparse
import sys

from nnsight_magic.doctor import WRONG, as_json, as_text, examine


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m nnsight_magic", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="look at versions, devices, front end and models")
    doctor.add_argument("--json", action="store_true", help="for programs")
    chosen = parser.parse_args(arguments)
    findings = examine()
    print(as_json(findings) if chosen.json else as_text(findings))
    return int(any(each.state == WRONG for each in findings))


if __name__ == "__main__":
    sys.exit(main())

"""`%probe`: a line about variables of the notebook, which runs no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnsight_magic.errors import OptionError
from nnsight_magic.magics.analysis import Variable, numbers_in
from nnsight_magic.magics.options import Line

if TYPE_CHECKING:
    from nnsight_magic.analyses.probe_shown import Probe


def asked(line: Line) -> dict[str, Any]:
    """What `analyses.probe` is called with; variables by their names.

    Raises:
        OptionError: the line names no labels, or no states.
    """
    if len(line.words) != 1 or line.prompts:
        raise OptionError("give the variable with the labels: %probe labels --from store")
    source = line.options["from"]
    if source is None:
        raise OptionError("nothing says what the states are: %probe labels --from store")
    for name in (line.words[0], source, line.group):
        if name is not None and not name.isidentifier():
            raise OptionError(f"{name!r} cannot be the name of a variable")
    group = None if line.group is None else Variable(line.group)
    layers = None if line.layers is None else numbers_in(line.layers)
    told = {
        "groups": group,
        "site": line.site,
        "layers": layers,
        "method": line.method,
        "folds": line.folds,
        "draws": line.draws,
        "seed": line.seed,
    }
    given = {name: value for name, value in told.items() if value is not None}
    return {"source": Variable(source), "labels": Variable(line.words[0]), **given}


def code(line: Line) -> str:
    """The Python that does the same."""
    given = asked(line)
    source, labels = given.pop("source"), given.pop("labels")
    more = "".join(f", {name}={value!r}" for name, value in given.items())
    name = line.output or "found"
    call = f"{name} = analyses.probe({source!r}, {labels!r}{more})"
    return f"from nnsight_magic import analyses\n\n{call}\n{name}"


def run(line: Line, namespace: Mapping[str, Any]) -> Probe:
    """Probes.

    Raises:
        OptionError: there is no such variable.
    """
    from nnsight_magic import analyses

    given = {
        name: value.value(namespace) if isinstance(value, Variable) else value
        for name, value in asked(line).items()
    }
    return analyses.probe(given.pop("source"), given.pop("labels"), **given)

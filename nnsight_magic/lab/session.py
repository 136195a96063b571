"""What the panel asks of a notebook's session, and what it has done there.

Everything is read from records that a run leaves behind, so that the panel is answered while a cell
runs: nothing of a model is run, and no tensor is looked into.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from nnsight_magic.errors import BadInputError, NnsightError
from nnsight_magic.lab.defaults import PageDefaults
from nnsight_magic.lab.model_tree import PanelTree, Trees
from nnsight_magic.lab.told import list_in, number_in, switch_in, text_in
from nnsight_magic.lab.written import checked, explained, from_utf16
from nnsight_magic.magics import lists
from nnsight_magic.magics.edits import as_text, steps_text
from nnsight_magic.magics.models import title
from nnsight_magic.magics.options import expand, split
from nnsight_magic.results.compared import shortened
from nnsight_magic.results.result import TraceResult

_VARIABLE = re.compile(r"\$(?=\w)")  # which a line would put a variable in the place of
MOST_RUNS = 100  # that the panel lists

Answer = dict[str, Any]


class Session:
    """Answers the panel's questions about one set of registered magics."""

    def __init__(self, magics: Any) -> None:
        self.magics = magics
        self.trees = Trees()
        self.defaults = PageDefaults(magics)

    @property
    def answers(self) -> dict[str, Callable[[Mapping[str, Any]], Answer]]:
        """What the page may ask for, by name."""
        return {
            "state": self.state,
            "tree": lambda asked: self._tree(asked).packed(self._model(asked)),
            "kinds": lambda asked: self._tree(asked).kinds(asked),
            "details": lambda asked: self._tree(asked).details(asked),
            "want": lambda asked: self._tree(asked).want(asked),
            "in_use": self.in_use,
            "configure": self.configure,
            "check": self.check,
            "about": self.about,
            "drop_saved": self.drop_saved,
            "drop_run": self.drop_run,
            "switch_edit": self.switch_edit,
            "remove_edit": self.remove_edit,
        }

    # -- what there is --------------------------------------------------------------------------

    def state(self, asked: Mapping[str, Any]) -> Answer:
        """All that the panel lists. `asked["model"]` is the variable of the model to look at, ""
        for the one in use."""
        self.magics.models.namespace = self.magics.shell.user_ns
        models = self.magics.models.all()
        chosen = text_in(asked, "model")
        if chosen not in models:
            chosen = self._in_use()
        found: Answer = {
            "models": [{"name": name, "title": title(each)} for name, each in models.items()],
            "model": chosen,
            "saved": self._saved(),
            "runs": [_run(each) for each in reversed(list(self.magics.runs_made))][:MOST_RUNS],
            "edits": [],
            "tree": 0,
            "notes": {},
            "wanted": [],
            "facts": None,
            "prompt": self._last_prompt(chosen),
        }
        if chosen:
            model = models[chosen]
            tree = self.trees.of(model)
            mine = [each for each in list(self.magics.runs_made) if _on(each, chosen)]
            there = {each["name"] for each in found["saved"]}
            found |= {
                "edits": _edits(model),
                "tree": tree.version,
                "notes": tree.notes(mine, there.__contains__),
                "wanted": tree.wanted,
                "facts": tree.facts(),
            }
        return found

    def _in_use(self) -> str:
        try:
            return self.magics.models.find(None)[0]
        except NnsightError:  # there is none, or several of which none is chosen
            return next(iter(self.magics.models.all()), "")

    def _saved(self) -> list[Answer]:
        there = lists.still_there(list(self.magics.runs_made), self.magics.shell.user_ns)
        return [
            {
                "name": name,
                "form": each.form,
                "dtype": each.dtype,
                "device": each.device,
                "bytes": each.bytes,
                "run": result.number,
                "where": each.where,
            }
            for name, (result, each) in there.items()
        ]

    def _last_prompt(self, chosen: str) -> str:
        for each in reversed(list(self.magics.runs_made)):
            if _on(each, chosen) and each.prompts:
                return quoted(each.prompts[0].text)
        return ""

    # -- beside the panel -----------------------------------------------------------------------

    def in_use(self, asked: Mapping[str, Any]) -> Answer:
        """The variable of the model in use, where its weights are, and their bytes; "" for both
        names where there is none, or it is not loaded yet."""
        self.magics.models.namespace = self.magics.shell.user_ns
        name = self._in_use()
        if not name:
            return {"model": "", "device": "", "bytes": 0}
        weights = list(self.magics.models.all()[name]._root.parameters())
        devices = {each.device.type for each in weights} - {"meta"}
        held = sum(each.nbytes for each in weights if each.device.type != "meta")
        return {"model": name, "device": ", ".join(sorted(devices)), "bytes": held}

    def configure(self, asked: Mapping[str, Any]) -> Answer:
        """Takes the settings page's values as defaults; what a notebook has set itself stays."""
        given = asked.get("settings")
        if not isinstance(given, dict):
            raise BadInputError("the page's message has no settings")
        return {"set": self.defaults.take(given)}

    # -- a cell that is being written -----------------------------------------------------------

    def check(self, asked: Mapping[str, Any]) -> Answer:
        """What to colour and to underline in the cell with the text `asked["text"]`."""
        return checked(text_in(asked, "text"), self.magics)

    def about(self, asked: Mapping[str, Any]) -> Answer:
        """What `?` shows of the name at a line, from 1, and a column of UTF-16; "" for nothing."""
        text, number = text_in(asked, "text"), number_in(asked, "line")
        lines = text.split("\n")
        if not 1 <= number <= len(lines):
            raise BadInputError(f"the cell has no line {number}")
        column = from_utf16(lines[number - 1], max(0, number_in(asked, "column")))
        found = explained(text, number, column, self.magics)
        return {"about": found[1] if found is not None else ""}

    # -- which model ----------------------------------------------------------------------------

    def _model(self, asked: Mapping[str, Any]) -> Any:
        name = text_in(asked, "model")
        found = self.magics.models.all().get(name)
        if found is None:
            raise BadInputError(f"the notebook has no model {name!r} any more")
        return found

    def _tree(self, asked: Mapping[str, Any]) -> PanelTree:
        return self.trees.of(self._model(asked))

    # -- what is changed ------------------------------------------------------------------------

    def drop_saved(self, asked: Mapping[str, Any]) -> Answer:
        """Deletes variables that hold what a run saved; others are refused."""
        names = list_in(asked, "names", str)
        if not names:
            raise BadInputError("the panel's message names nothing to drop")
        lists.saved(self.magics.runs_made, self.magics.shell.user_ns, names, True)
        self.magics.release_gone()
        return {}

    def drop_run(self, asked: Mapping[str, Any]) -> Answer:
        """Forgets a run; what it saved stays the notebook's."""
        self.magics.runs_made.drop(str(number_in(asked, "run")))
        return {}

    def switch_edit(self, asked: Mapping[str, Any]) -> Answer:
        """Switches an edit of a model on or off, for the runs to come."""
        self._edit(asked).enabled = switch_in(asked, "on")
        return {}

    def remove_edit(self, asked: Mapping[str, Any]) -> Answer:
        """Takes an edit out of its model."""
        self._edit(asked).remove()
        return {}

    def _edit(self, asked: Mapping[str, Any]) -> Any:
        name, edits = text_in(asked, "name"), self._model(asked).edits
        if name not in edits:
            raise BadInputError(f"the model has no edit {name!r} any more")
        return edits[name]


def quoted(prompt: str) -> str:
    """A prompt as it stands in a magic's line; "" for one that would be read as another.

    >>> quoted('a {b} "c"')
    '"a {{b}} \\\\"c\\\\""'
    """
    braces = prompt.replace("{", "{{").replace("}", "}}")
    text = json.dumps(_VARIABLE.sub("{'$'}", braces), ensure_ascii=False)
    try:
        [piece] = split(text)
        read = expand(piece.text, {})
    except (NnsightError, ValueError, SyntaxError):
        return ""
    return text if piece.quoted and read == prompt else ""


def _on(run: TraceResult, variable: str) -> bool:
    return run.record.model.variable == variable


def _run(run: TraceResult) -> Answer:
    """A run as the panel's list has it."""
    record = run.record
    return {
        "number": record.number,
        "kind": record.magic,
        "model": record.model.in_words,
        "prompt": shortened(record.prompts[0].text, 60) if record.prompts else "",
        "read": list(record.read),
        "wrote": list(record.wrote),
        "saved": [each.name for each in record.saved],
        "edits": list(record.model.edits),
        "best": lists.best_of(run),
        "ran": lists.how_far(run),
        "time": run.time,
        "failed": bool(record.ran.failed),
        "source": record.source,
    }


def _edits(model: Any) -> list[Answer]:
    return [
        {
            "name": name,
            "on": edit.enabled,
            "steps": steps_text(edit),
            "writes": [as_text(each, model) for each in edit.writes],
        }
        for name, edit in list(model.edits.items())
    ]

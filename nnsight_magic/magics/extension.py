"""The magics themselves: read the line, call the API, bind names."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import (
    Magics,
    cell_magic,
    line_cell_magic,
    line_magic,
    magics_class,
    no_var_expand,
)
from IPython.display import display
from traitlets import Bool, Int, Unicode

from nnsight_magic.analyses.opening import RUNNERS
from nnsight_magic.errors import BadInputError, CellError, NnsightError, OptionError
from nnsight_magic.front_end import shows_views
from nnsight_magic.language.names import SWEEP_NAMES
from nnsight_magic.magics.errors_shown import show_cell_error, show_from_cell
from nnsight_magic.magics.inspection import only_questions
from nnsight_magic.magics.models import Models
from nnsight_magic.magics.options import HelpShown, Line, help_text, line_error, read_line
from nnsight_magic.magics.shapes import Shapes
from nnsight_magic.magics.where import CellPlace, place_of
from nnsight_magic.results.history import BUDGET, Runs


@dataclass(frozen=True)
class Gathered:
    """Settings, the name of the model in use, runs and shapes of a session."""

    settings: dict[str, Any]
    current: str | None
    runs: Runs
    shapes: Shapes


@magics_class
class NNsightMagic(Magics):
    """Magics for looking into language models.

    `%config NNsightMagic.quiet = True` sets the default of an option.
    """

    model = Unicode(None, allow_none=True, help="The model to run: a notebook variable.").tag(
        config=True
    )
    new_tokens = Int(20, help="How many tokens %%generate makes.").tag(config=True)
    seed = Int(
        None, allow_none=True, help="Where the random numbers of %%generate begin, if it samples."
    ).tag(config=True)
    compare = Bool(True, help="Predict without the cell's writes too.").tag(config=True)
    full = Bool(False, help="Run every forward to its end.").tag(config=True)
    fresh = Bool(False, help="Start every forward from its beginning.").tag(config=True)
    grad = Bool(False, help="Record gradients in every cell.").tag(config=True)
    chat = Bool(False, help="Put prompts into the model's chat template.").tag(config=True)
    view = Bool(True, help="Show results with their views.").tag(config=True)
    quiet = Bool(False, help="Show no results.").tag(config=True)
    overwritten = Int(
        BUDGET, help="Bytes of overwritten saved tensors that are kept to compare runs."
    ).tag(config=True)

    # Magics in general may have none; these are made with one.
    shell: InteractiveShell  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.models = Models(shell.user_ns)
        self.runs_made = Runs()
        self.shapes = Shapes()
        self._clean_runs: Any = None
        self._unfinished: Any = None  # sweeps that were stopped
        # What `%audit` is of: the magic, its line, its body, and where it stands.
        self._last_cell: tuple[str, str, str, CellPlace] | None = None
        RUNNERS[:] = [self._run_point]

    @property
    def settings(self) -> dict[str, Any]:
        """The defaults of the options, by `%config`."""
        return {name: getattr(self, name) for name in self.class_own_traits(config=True)}

    @property
    def gathered(self) -> Gathered:
        """What a session leaves behind that the magics of a new load go on with."""
        return Gathered(self.settings, self.models.current, self.runs_made, self.shapes)

    def take_over(self, before: Gathered) -> None:
        for name, value in before.settings.items():
            setattr(self, name, value)
        self.models.current = before.current
        self.runs_made, self.shapes = before.runs, before.shapes

    def release_gone(self, *_: Any) -> None:
        """After each cell: what was kept of variables that are gone is let go."""
        self.runs_made.release_gone(self.shell.user_ns)

    def saved_names(self) -> list[str]:
        """Names that traces have saved and that are still variables."""
        names = dict.fromkeys(each.name for result in self.runs_made for each in result.saved)
        return [name for name in names if name in self.shell.user_ns]

    @property
    def colour(self) -> bool:
        return str(self.shell.colors).lower() != "nocolor"

    def _transform(self, body: str) -> str:
        """Turn `%` and `!` lines into Python. The shell's own would also take the only line of a
        cell for the magic that its first word names: `save h = …` for IPython's `%save`."""
        return self.shell.input_transformer_manager.transform_cell(body)

    def _read(self, magic: str, line: str) -> Line | None:
        """The line, read; `None` after `--help`, which is printed."""
        try:
            return read_line(magic, line, self.settings, self.shell.user_ns)
        except HelpShown as shown:
            from nnsight_magic.terminal import fitted

            print(fitted(shown.text))
            return None

    # -- cells --------------------------------------------------------------------------------

    @no_var_expand
    @cell_magic
    def trace(self, line: str, cell: str) -> Any:
        __tracebackhide__ = True
        return self._run("trace", line, cell)

    @no_var_expand
    @cell_magic
    def generate(self, line: str, cell: str) -> Any:
        __tracebackhide__ = True
        return self._run("generate", line, cell)

    @no_var_expand
    @cell_magic("edit")
    def edit_magic(self, line: str, cell: str) -> None:
        __tracebackhide__ = True
        self._run("edit", line, cell)

    @no_var_expand
    @cell_magic("sweep")
    def sweep_magic(self, line: str, cell: str) -> Any:
        __tracebackhide__ = True
        return self._run("sweep", line, cell)

    def _run(self, magic: str, line: str, body: str) -> Any:
        __tracebackhide__ = True
        place = place_of(self.shell, magic, line, body)
        with self._errors_of_line(magic, line, place.title):
            read = self._read(magic, line)
            if read is None:
                return None
            if not body.strip():
                raise OptionError(
                    "the cell is empty; write below the line what to read or change (or pass)"
                )
            self.models.namespace = self.shell.user_ns
            name, model = self.models.find(read.model)
        if magic != "edit":
            self._last_cell = magic, line, body, place
        if magic == "edit":
            return self._record_edit(name, model, read, body, place, line)
        if magic == "sweep":
            if asked := only_questions(body):
                for each in asked:
                    self._line("about", each, partial(self._about, sweeps=True))
                return None
            return self._run_sweep(name, model, read, body, place, line)
        return self._run_on(name, model, magic, read, body, place, line)

    @contextmanager
    def _errors_of_line(self, magic: str, line: str, title: str) -> Iterator[None]:
        """Errors of this package, shown with the cell's lines or with the magic's line."""
        try:
            yield
        except CellError as error:
            raise show_cell_error(error, title, self.colour) from None
        except NnsightError as error:
            shown = line_error(magic, line, error, title)
            raise show_cell_error(shown, title, self.colour) from None

    def _record_edit(
        self, name: str, model: Any, read: Line, body: str, place: CellPlace, line: str
    ) -> None:
        __tracebackhide__ = True
        from nnsight_magic.magics import edits

        namespace = self.shell.user_ns
        with self._errors_of_line("edit", line, place.title):
            if name not in self.models.all():
                raise OptionError(f"{name!r} is not loaded here; first: %model {name}")
            program, edit = edits.prepared(read, body, place, model, namespace, self._transform)
        try:
            told = edits.make(program, edit, model, name, namespace, self._show)
        except BaseException as error:
            show_from_cell(error, self.shell)
            raise
        if not read.quiet:
            print(told)

    def _run_on(
        self, name: str, model: Any, magic: str, read: Line, body: str, place: CellPlace, line: str
    ) -> Any:
        __tracebackhide__ = True
        from nnsight_magic.magics import describe
        from nnsight_magic.magics.cell import Asked, prepare
        from nnsight_magic.magics.predict import CleanRuns
        from nnsight_magic.magics.trace import execute, start
        from nnsight_magic.results.result import TraceResult

        if self._clean_runs is None:
            self._clean_runs = CleanRuns()
        namespace = self.shell.user_ns
        screen = self._screen(read, model)
        asked = Asked(
            cast(Literal["trace", "generate"], magic),
            read,
            body,
            place,
            self.runs_made.next_number,
            model,
            name,
            namespace,
            self._transform,
            self._show,
            screen,
        )
        with self._errors_of_line(magic, line, place.title):
            running = start(prepare(asked))
        before = self.runs_made.standing(namespace)
        try:
            finished = execute(running)
        except BaseException as error:
            self.runs_made.keep_overwritten(before, namespace, self.overwritten)
            before.clear()  # the traceback holds this frame
            if isinstance(error, NnsightError) and not running.outcome.report:
                shown = line_error(magic, line, error, place.title)
                raise show_cell_error(shown, place.title, self.colour) from None
            if running.outcome.report is not None:
                record = describe.record_unfinished(running, error)
                self.runs_made.add(TraceResult(record))
            show_from_cell(error, self.shell)
            raise
        result = TraceResult(describe.record(finished, self._clean_runs), screen)
        self.runs_made.keep_overwritten(before, namespace, self.overwritten)
        self.runs_made.add(result)
        self.shapes.note(model, running.outcome)
        if read.output:
            namespace[read.output] = result
        return None if read.quiet else result

    def _run_sweep(
        self, name: str, model: Any, read: Line, body: str, place: CellPlace, line: str
    ) -> Any:
        __tracebackhide__ = True
        from nnsight_magic.magics.sweep import Asked, prepare
        from nnsight_magic.magics.sweep_record import Ran, sweep_record
        from nnsight_magic.magics.sweeping import run_cell
        from nnsight_magic.magics.unfinished import Unfinished
        from nnsight_magic.results.result import TraceResult

        if self._unfinished is None:
            self._unfinished = Unfinished()
        namespace = self.shell.user_ns
        asked = Asked(read, body, place, model, namespace, self._transform, self._show)
        live = not read.quiet and bool(read.view) and shows_views(self.shell)
        with self._errors_of_line("sweep", line, place.title):
            cell = prepare(asked)
        before, began = self.runs_made.standing(namespace), time.perf_counter()
        error: BaseException | None = None
        try:
            result = run_cell(cell, self._unfinished, live=live)
        except CellError as refused:
            raise show_cell_error(refused, place.title, self.colour) from None
        except OptionError as refused:
            shown = line_error("sweep", line, refused, place.title)
            raise show_cell_error(shown, place.title, self.colour) from None
        except BaseException as raised:
            error = raised
            show_from_cell(raised, self.shell)
            raise
        finally:
            self.runs_made.keep_overwritten(before, namespace, self.overwritten)
            before.clear()  # the traceback holds this frame
            if cell.found is not None and not read.dry:
                seconds = time.perf_counter() - began
                ran = Ran(self.runs_made.next_number, name, seconds, error)
                self.runs_made.add(TraceResult(sweep_record(cell, ran)))
            error = None
        if read.output:
            namespace[read.output] = result
        return None if read.quiet or result is None else result

    def _run_point(
        self, model: Any, text: str, title: str, beside: Sequence[str], selection: Any
    ) -> list[Any]:
        """A point of a result that a view opens."""
        from nnsight_magic.magics.point_run import run_point

        return run_point(
            model,
            text,
            title,
            beside,
            selection,
            namespace=self.shell.user_ns,
            settings=self.settings,
            transform=self._transform,
        )

    def _screen(self, read: Line, model: Any) -> Any:
        """What shows the result by views, where there is a notebook and they are wanted."""
        if read.quiet or not read.view or not shows_views(self.shell):
            return None
        from nnsight_magic.results.as_view import OnScreen

        return OnScreen(model)

    def _show(self, value: Any, text: str = "", model: Any = None, outcome: Any = None) -> None:
        from nnsight_magic.magics.shown import show_value

        rows = outcome.rows if outcome is not None else ()
        show_value(shows_views(self.shell), value, text, model, rows)

    # -- lines --------------------------------------------------------------------------------

    @no_var_expand
    @line_magic("model")
    def model_magic(self, line: str) -> None:
        __tracebackhide__ = True
        self._line("model", line, self._load_model)

    @no_var_expand
    @line_magic("models")
    def models_magic(self, line: str) -> None:
        __tracebackhide__ = True
        self._line("models", line, self._list_models)

    @no_var_expand
    @line_magic("saved")
    def saved_magic(self, line: str) -> None:
        __tracebackhide__ = True
        self._line("saved", line, self._list_saved)

    @no_var_expand
    @line_magic("runs")
    def runs_magic(self, line: str) -> None:
        __tracebackhide__ = True
        self._line("runs", line, self._list_runs)

    @no_var_expand
    @line_magic("edits")
    def edits_magic(self, line: str) -> None:
        __tracebackhide__ = True
        self._line("edits", line, self._list_edits)

    @no_var_expand
    @line_magic("about")
    def about_magic(self, line: str) -> None:
        __tracebackhide__ = True
        self._line("about", line, self._about)

    # -- analyses -----------------------------------------------------------------------------

    @no_var_expand
    @line_magic("lens")
    def lens_magic(self, line: str) -> Any:
        __tracebackhide__ = True
        return self._analyse("lens", line)

    @no_var_expand
    @line_magic("attention")
    def attention_magic(self, line: str) -> Any:
        __tracebackhide__ = True
        return self._analyse("attention", line)

    @no_var_expand
    @line_magic("patch")
    def patch_magic(self, line: str) -> Any:
        __tracebackhide__ = True
        return self._analyse("patch", line)

    @no_var_expand
    @line_magic("ablate")
    def ablate_magic(self, line: str) -> Any:
        __tracebackhide__ = True
        return self._analyse("ablate", line)

    @no_var_expand
    @line_magic("attribute")
    def attribute_magic(self, line: str) -> Any:
        __tracebackhide__ = True
        return self._analyse("attribute", line)

    @no_var_expand
    @line_magic("dla")
    def dla_magic(self, line: str) -> Any:
        __tracebackhide__ = True
        return self._analyse("dla", line)

    @no_var_expand
    @line_magic("probe")
    def probe_magic(self, line: str) -> Any:
        __tracebackhide__ = True
        from nnsight_magic.magics import probing

        return self._of_variables("probe", line, probing)

    @no_var_expand
    @line_magic("steer")
    def steer_magic(self, line: str) -> Any:
        __tracebackhide__ = True
        with self._errors_of_line("steer", line, "%steer"):
            read = self._read("steer", line)
            if read is None:
                return None
            from nnsight_magic.magics import steering

            self.models.namespace = self.shell.user_ns
            call = steering.asked(read, *self.models.find(read.model), self.shell.user_ns)
            if read.code:
                print(call.code)
                return None
            found = call.run(self.shell.user_ns)
        if isinstance(found, str):
            if not read.quiet:
                print(found)
            return None
        return self._given(read, found)

    def _given(self, read: Line, found: Any) -> Any:
        """What an analysis found, put into its variable; it, if it is to be shown by itself."""
        if read.output:
            self.shell.user_ns[read.output] = found
        if not read.quiet and not read.view:
            print(found.text())
        return found if read.view and not read.quiet else None

    def _of_variables(self, magic: str, line: str, of: Any) -> Any:
        """An analysis that reads variables of the notebook, and names no prompt."""
        __tracebackhide__ = True
        with self._errors_of_line(magic, line, f"%{magic}"):
            read = self._read(magic, line)
            if read is None:
                return None
            if read.code:
                print(of.code(read))
                return None
            found = of.run(read, self.shell.user_ns)
        return self._given(read, found)

    @no_var_expand
    @line_cell_magic("audit")
    def audit_magic(self, line: str, cell: str | None = None) -> Any:
        __tracebackhide__ = True
        if cell is None:
            return self._audit(line, self._last_cell, "%audit")
        place = place_of(self.shell, "audit", line, cell)
        return self._audit(line, ("audit", line, cell, place), place.title)

    def _audit(self, line: str, cell: tuple[str, str, str, CellPlace] | None, where: str) -> Any:
        """Audits a cell, or the last one; gives what it found."""
        __tracebackhide__ = True
        with self._errors_of_line("audit", line, where):
            read = self._read("audit", line)
            if read is None:
                return None
            from nnsight_magic.magics import auditing
            from nnsight_magic.magics.cell import prepare

            self.models.namespace = self.shell.user_ns
            text = None if cell is None else auditing.CellOf(*cell)
            asked = auditing.asked(text, read, self, self._transform)
            if read.code:
                print(auditing.code(asked))
                return None
            prepared = prepare(asked)
        try:
            found = auditing.run(prepared)
        except BadInputError as error:
            raise show_cell_error(
                line_error("audit", line, error, where), where, self.colour
            ) from None
        except BaseException as error:
            show_from_cell(error, self.shell)
            raise
        return self._given(read, found)

    def _analyse(self, magic: str, line: str) -> Any:
        """Runs the analysis of that name; gives what it found, or `None` where nothing is shown."""
        __tracebackhide__ = True
        with self._errors_of_line(magic, line, f"%{magic}"):
            read = self._read(magic, line)
            if read is None:
                return None
            from nnsight_magic.magics.analysis import asked, run

            self.models.namespace = self.shell.user_ns
            name, model = self.models.find(read.model)
            call = asked(magic, read, name, model, self.shell.user_ns)
            if read.code:
                print(call.code)
                return None
            found = run(call, self.shell.user_ns)
        if read.output:
            self.shell.user_ns[read.output] = found.value
        return None if read.quiet else found.shown(views=bool(read.view))

    def _line(self, magic: str, line: str, act: Any) -> None:
        __tracebackhide__ = True
        with self._errors_of_line(magic, line, f"%{magic}"):
            read = self._read(magic, line)
            if read is not None:
                act(read)

    def _load_model(self, read: Line) -> None:
        from nnsight_magic.magics import models
        from nnsight_magic.magics.waiting import Waiting
        from nnsight_magic.views.display import show_view

        words = [*read.words, *read.prompts]
        if len(words) != 1:
            found = "no model is named" if not words else f"{len(words)} models are named"
            raise OptionError(f"{found}; give one: %model demo")
        source, name = words[0], read.name
        if name is not None and not name.isidentifier():
            raise OptionError(f"{name!r} cannot be the name of a variable")
        with Waiting(self.shell, f"loading {source} …") as word:
            model = models.load(source, self.shell.user_ns, read.device, read.dtype)
            if name is None:
                mine = self.shell.user_ns.get(source) is model
                name = source if mine else "model"
            self.shell.user_ns[name] = model
            self.models.current = name
            told = models.description(name, model)
            if shows_views(self.shell) and self.view:
                show_view(models.tree_view(model, told), word.place())
                return
        print(told)

    def _about(self, read: Line, *, sweeps: bool = False) -> None:
        from nnsight_magic.language.complete import about
        from nnsight_magic.language.names import meaning
        from nnsight_magic.magics.inspection import MODULES, first_name, handle_of
        from nnsight_magic.terminal import fitted

        if len(read.words) != 1:
            raise OptionError("give one module: %about layers[3].mlp")
        handle = handle_of(read.words[0], self)
        told = meaning(read.words[0], sweeps=sweeps or read.words[0] in SWEEP_NAMES)
        if told and (sweeps or read.words[0] not in MODULES):
            print(fitted(f"{read.words[0]}: {told}"))
            return
        if handle is None:
            if first_name(read.words[0]) in self.shell.user_ns:
                # `norm = f` and `norm?` in one cell: the variable came after the cell was read.
                self.shell.run_line_magic("pinfo", read.words[0])
                return
            self.models.find(None)
            raise OptionError(f"{read.words[0]!r} is no module of the model in use")
        model = handle._model
        print(fitted(about(handle, self.shapes.seen(model), self.shapes.scanned(model))))

    def _list_models(self, read: Line) -> None:
        from nnsight_magic.magics import lists

        print(lists.models(self.models))

    def _list_saved(self, read: Line) -> None:
        from nnsight_magic.magics import lists

        print(lists.saved(self.runs_made, self.shell.user_ns, read.words, read.drop))

    def _list_runs(self, read: Line) -> None:
        from nnsight_magic.magics import lists

        if len(read.words) == 2 and shows_views(self.shell) and self.view:
            from nnsight_magic.results.compared import compared

            first, second = (self.runs_made.get(each) for each in read.words)
            view = first.compare(second)
            view.words = compared(first.record, second.record)
            display(view)
        else:
            print(lists.runs(self.runs_made, read.words))

    def _list_edits(self, read: Line) -> None:
        name, model = self.models.find(read.model)
        from nnsight_magic.magics import edits

        print(edits.carry_out(read, name, model))


for _name in ("trace", "generate"):
    getattr(NNsightMagic, _name).__doc__ = help_text(_name)
_LINES = ("model", "models", "saved", "runs", "edits", "about")
_ANALYSES = ("ablate", "attention", "audit", "attribute", "dla", "lens", "patch", "probe", "steer")
for _name in ("sweep", "edit", *_LINES, *_ANALYSES):
    getattr(NNsightMagic, f"{_name}_magic").__doc__ = help_text(_name)

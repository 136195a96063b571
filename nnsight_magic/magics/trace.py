"""Running a trace cell: parse, check, run on the engine, describe; nothing of IPython."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from nnsight_magic.engine.running.inputs import WholeText
from nnsight_magic.engine.tracing.settings_of_generation import Settings, settings_of
from nnsight_magic.errors import OptionError
from nnsight_magic.language.names import TRACE_NAMES
from nnsight_magic.language.problems import did_you_mean
from nnsight_magic.language.program import Program
from nnsight_magic.language.read import read
from nnsight_magic.language.run import Outcome, run
from nnsight_magic.language.tokens import PromptRow, joined, token_texts
from nnsight_magic.magics.models import title
from nnsight_magic.magics.options import Line
from nnsight_magic.magics.predict import (
    CleanRuns,
    NextTokens,
    divergence,
    guesses,
    next_tokens,
    predictions,
)
from nnsight_magic.magics.wanted import asked_for, gathered, keep_wanted
from nnsight_magic.magics.where import Place
from nnsight_magic.results.labels import sizes_of, vocabulary_of
from nnsight_magic.results.record import (
    Extent,
    ModuleTouch,
    PromptResult,
    RunModel,
    RunRecord,
    prompt_of,
)
from nnsight_magic.results.result import TraceResult
from nnsight_magic.results.saved import describe_saved


@dataclass
class Cell:
    """One trace cell to run."""

    magic: str
    line: Line
    body: str
    place: Place
    model: Any
    namespace: MutableMapping[str, Any]
    transform: Callable[[str], str] | None = None
    show: Callable[..., None] = print
    inputs: Any = None
    names: tuple[str, ...] = ()
    number: int = 0  # of the run
    variable: str = ""  # that the model is in
    edits: tuple[str, ...] = ()  # in force
    on_screen: Any = None  # where the result is shown, if it is shown by views
    outcome: Outcome = field(default_factory=Outcome)
    wanted: Any = None  # modules whose output was asked for in a tree
    stream: Any = None  # a generation's `Stream`, while views show it


def prepared(cell: Cell) -> Program:
    """The cell's program, checked. Raises `CellError` with everything that is wrong with it."""
    cell.inputs, cell.names = prompts_of(cell.line, cell.model, cell.namespace)
    place = cell.place
    return read(
        cell.body,
        cell.model,
        cell.namespace,
        cell.names,
        place.filename,
        place.first_line,
        cell.transform,
    )


def prompts_of(
    line: Line, model: Any, namespace: MutableMapping[str, Any]
) -> tuple[Any, tuple[str, ...]]:
    """What to run the model on, by the line: quoted prompts, `-p VAR` or `-f FILE`; with names."""
    given = [bool(line.prompts), line.prompt is not None, line.file is not None]
    if sum(given) > 1:
        raise OptionError("give the prompt once: quoted, with -p VAR or with -f FILE")
    if line.words:
        first = line.words[0]
        quoted = f'a prompt stands in quotation marks: "{" ".join(line.words)}"'
        variable = f"a variable follows -p: -p {first}"
        raise OptionError(f"{first!r} is no option; {variable if first in namespace else quoted}")
    names: tuple[str, ...] = tuple(line.names)
    if line.prompts:
        inputs: Any = line.prompts[0] if len(line.prompts) == 1 else list(line.prompts)
    elif line.prompt is not None:
        if line.prompt not in namespace:
            near = did_you_mean(line.prompt, [n for n in namespace if not n.startswith("_")])
            raise OptionError(f"no variable {line.prompt!r} in the notebook; {near or 'assign it'}")
        inputs = namespace[line.prompt]
    elif line.file is not None:
        inputs = read_prompts(line.file)
    else:
        raise OptionError(
            "there is no prompt; put one in quotation marks, or use -p VAR or -f FILE"
        )
    if isinstance(inputs, dict) and inputs and all(isinstance(v, str) for v in inputs.values()):
        names, inputs = tuple(inputs), list(inputs.values())
        for name in names:
            if not name.isidentifier() or name in TRACE_NAMES:
                raise OptionError(f"{name!r} cannot be the name of a prompt")
    if line.chat:
        inputs = in_chat(inputs, model.tokenizer)
    return inputs, names


def read_prompts(path: str) -> Any:
    """A file's text as one prompt; a `.json` file may hold several (a list, or an object)."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(f"the file {path!r} cannot be read: {error.strerror or error}") from None
    if path.endswith(".json"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise OptionError(f"the file {path!r} is not JSON: {error}") from None
    return text.removesuffix("\n")


def in_chat(inputs: Any, tokenizer: Any) -> Any:
    """Prompts as the user's turn of a chat; lists of messages go into the template as they are."""
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise OptionError("this model's tokenizer has no chat template; leave out --chat")

    def one(turn: Any) -> str:
        messages = [{"role": "user", "content": turn}] if isinstance(turn, str) else turn
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return WholeText(text)

    if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        return one(inputs)  # one conversation
    return [one(each) for each in inputs] if isinstance(inputs, list) else one(inputs)


def execute(cell: Cell, program: Program) -> None:
    """Runs the program; `cell.outcome` has what came of it, after an error too."""
    __tracebackhide__ = True
    line = cell.line
    grad = bool(line.grad) or program.wants_gradients
    cell.edits = tuple(edit.name for edit in cell.model.edits.in_force)
    with _seeded(cell), _watched(cell) as extra:
        run(
            program,
            asked_for(_begin(cell, grad, **extra), cell),
            cell.namespace,
            cell.outcome,
            cell.names,
            cell.show,
            at_end=lambda tracer: _at_end(cell, program, tracer),
        )


@contextlib.contextmanager
def _seeded(cell: Cell):
    """Random numbers from `--seed` on; those of the notebook go on afterwards as if untouched."""
    seed = getattr(cell.line, "seed", None)
    if seed is None:
        yield
        return
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _watched(cell: Cell):
    """Arguments by which a generation is watched: by its view as it streams in, or by a bar."""
    if cell.magic == "generate" and cell.on_screen is not None:
        from nnsight_magic.magics.stream import Stream

        if Stream.can_follow(_settings(cell)):
            cell.stream = Stream(cell)
            with cell.stream as extra:
                yield extra
            return
    with _progress(cell) as extra:
        yield extra


@contextlib.contextmanager
def _progress(cell: Cell):
    """Arguments that make a long generation show a bar."""
    if cell.magic == "trace" or cell.line.quiet:
        yield {}
        return
    from nnsight_magic.magics.progress import TokenProgress

    bar = TokenProgress(cell.line.generation.get("max_new_tokens", cell.line.new_tokens))
    try:
        yield {"stopping_criteria": [bar]}
    finally:
        bar.close()


def _settings(cell: Cell) -> Settings:
    """What the generation is done with, by the line and by the model."""
    return settings_of(cell.model.module, cell.line.generation)


def _begin(cell: Cell, grad: bool, **extra: Any) -> Any:
    call = cell.model.trace if cell.magic == "trace" else cell.model.generate
    known = signature(call).parameters
    options: dict[str, Any] = {"grad": grad}
    if cell.magic == "trace":
        options["full"] = bool(cell.line.full)
    else:
        options["max_new_tokens"] = cell.line.new_tokens
        options.update(cell.line.generation, **extra)
    if "resume" in known:
        options["resume"] = not cell.line.fresh
    return call(cell.inputs, **options)


def _at_end(cell: Cell, program: Program, tracer: Any) -> dict[str, Any]:
    """The cell's own code is through: take what the result needs while the forward stands."""
    touches = list(tracer.report.touches)
    found: dict[str, Any] = {"touches": touches}
    if cell.magic == "generate":
        found["sequences"] = tracer.result
        found["begin"] = tracer.begin
        found["tracer"] = tracer
    else:
        wrote = program.writes or tracer.wrote
        reached = any(touch.name == "" for touch in touches)
        if wrote or reached or cell.line.full:
            everywhere = cell.on_screen is not None
            found["next"] = next_tokens(tracer, cell.outcome.rows, everywhere)
        found["inputs"] = dict(tracer.inputs) if wrote and cell.line.compare else None
    if cell.wanted:  # last: what the run has come past is there already
        found["wanted"] = gathered(cell)
    return found


def result_of(cell: Cell, program: Program, clean_runs: CleanRuns, number: int) -> TraceResult:
    """The result object; makes the clean run to compare with, unless it is remembered."""
    outcome, found = cell.outcome, cell.outcome.last or {}
    report = outcome.report
    touches = found.get("touches", report.touches)
    wrote = _unique(n for t in touches if t.wrote for n in outcome.names_of(t, program))
    read = _unique(n for t in touches if not t.wrote for n in outcome.names_of(t, program))
    notices = [*report.notices, *outcome.notices, *_shadowed(program, cell)]
    notices += _several_texts(cell, found)
    wanted = keep_wanted(cell, found)
    if cell.magic == "generate":
        prompts = _generations(cell, found, bool(wrote), clean_runs)
    else:
        prompts = _predictions(cell, found, bool(wrote), clean_runs)
    record = RunRecord(
        cell.magic,
        number,
        RunModel(
            title(cell.model),
            cell.variable,
            cell.edits,
            sizes_of(cell.model),
            vocabulary_of(cell.model),
        ),
        prompts,
        saved=tuple(
            replace(
                describe_saved(s.name, s.where, s.value, s.name in program.collected),
                modules=_modules_of(s, program, cell.model),
            )
            for s in outcome.saved
        ),
        ran=Extent(
            report.blocks_run,
            report.blocks,
            _idle(cell.model, report) if cell.magic == "trace" else (),
            report.stopped_at,
            getattr(report, "resumed_at", None),
            report.forwards,
            report.seconds,
        ),
        wrote=wrote,
        read=read,
        modules=(
            *(ModuleTouch(".".join(t.parts), t.name, t.kind, t.shape, t.wrote) for t in touches),
            *wanted,
        ),
        notices=tuple(notices),
        source=program.source,
    )
    return TraceResult(record, cell.on_screen)


_WHOLE = re.compile(r"(?<![\w.\])])(?:model\.)?output\b")


def _modules_of(saved: Any, program: Program, model: Any) -> tuple[str, ...]:
    """The modules that a saved value is of: the logits are the unembedding's, not the root's."""
    unembed = model.names.path_of("unembed")
    logits = "logits" in saved.where or (
        "logits" in program.source and not _WHOLE.search(saved.where)
    )
    if unembed is None or not logits:
        return saved.modules
    return tuple(dict.fromkeys(path or unembed for path in saved.modules))


def _idle(model: Any, report: Any) -> tuple[str, ...]:
    """The blocks that did not run: those remembered, and those behind the end of the forward."""
    layers = model.names.layers
    return tuple(f"{layers}.{k}" for k in range(report.blocks) if k not in report.ran)


def _unique(names) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _shadowed(program: Program, cell: Cell) -> list[str]:
    """Notebook variables that the cell does not see, since the trace has the same name."""
    hidden = []
    for name in sorted(program.trace_names):
        value = cell.namespace.get(name, cell)
        if value is not cell and value is not cell.model:
            hidden.append(name)
    if not hidden:
        return []
    names = ", ".join(repr(name) for name in hidden)
    is_are = "are the trace's names" if len(hidden) > 1 else "is the trace's name"
    return [f"{names} {is_are} here, not the notebook's variable{'s' * (len(hidden) > 1)}"]


def _texts(cell: Cell) -> list[tuple[str, PromptRow]]:
    rows = cell.outcome.rows
    given = cell.inputs if isinstance(cell.inputs, list) else [cell.inputs]
    if len(given) != len(rows):
        given = rows
    return [
        (each if isinstance(each, str) else joined(row.tokens), row)
        for each, row in zip(given, rows, strict=True)
    ]


def _predictions(
    cell: Cell, found: dict[str, Any], wrote: bool, clean_runs: CleanRuns
) -> tuple[PromptResult, ...]:
    now = found.get("next")
    clean = None
    if now is not None and wrote and cell.line.compare and found.get("inputs") is not None:
        clean = _clean_predictions(cell, found, now, clean_runs)
    tokenizer = cell.model.tokenizer
    prompts = []
    for index, (text, row) in enumerate(_texts(cell)):
        if now is None or index >= len(now.rows):
            prompts.append(prompt_of(row, text))
            continue
        mine, beside = now.rows[index], None if clean is None else clean.rows[index]
        prompt = replace(prompt_of(row, text), predictions=predictions(mine, beside, tokenizer))
        if cell.on_screen is not None and row.tokens:
            count = len(row.tokens)
            top, top_clean = guesses(mine, beside, tokenizer, count)
            kl = () if beside is None else divergence(beside, mine, count)
            prompt = replace(prompt, top=top, top_clean=top_clean, kl=kl)
        prompts.append(prompt)
    return tuple(prompts)


def _clean_predictions(
    cell: Cell, found: dict[str, Any], now: NextTokens, clean_runs: CleanRuns
) -> NextTokens | None:
    key = CleanRuns.key(cell.model, found["inputs"])
    known = clean_runs.get(key) if key is not None else None
    if known is None or known.shapes != now.shapes:
        with cell.model.trace(dict(found["inputs"]), grad=False) as tracer:
            known = next_tokens(tracer, cell.outcome.rows, cell.on_screen is not None)
        if key is not None:
            clean_runs.put(key, cell.model, known)
    return known


def _generations(
    cell: Cell, found: dict[str, Any], wrote: bool, clean_runs: CleanRuns
) -> tuple[PromptResult, ...]:
    now = _new_texts(cell, found.get("sequences"), found.get("begin", 0))
    clean: list[tuple[str, ...]] = []
    samples = _settings(cell).may_be("do_sample")
    if wrote and cell.line.compare and now and (not samples or cell.line.seed is not None):
        clean = _clean_texts(cell, found["tracer"], clean_runs)
    prompts = []
    for index, (text, row) in enumerate(_texts(cell)):
        after, before = (_first_text(texts, index, cell) for texts in (now, clean))
        steps = cell.stream.candidates(index) if cell.stream else ()
        steps = steps[: len(after)]
        prompt = prompt_of(row, text)
        prompts.append(replace(prompt, generated=after, generated_clean=before, steps=steps))
    return tuple(prompts)


def _first_text(texts: list[tuple[str, ...]], index: int, cell: Cell) -> tuple[str, ...]:
    """The first text of a prompt: each may have several, one after another."""
    each = max(1, len(texts) // max(1, len(cell.outcome.rows)))
    return texts[index * each] if index * each < len(texts) else ()


def _several_texts(cell: Cell, found: dict[str, Any]) -> list[str]:
    """That each prompt has several texts, where one is shown."""
    sequences = getattr(found.get("sequences"), "sequences", found.get("sequences"))
    if sequences is None or not cell.outcome.rows:
        return []
    each = len(sequences) // len(cell.outcome.rows)
    if each < 2:
        return []
    return [f"Each prompt has {each} texts, of which the first is shown."]


def _clean_texts(cell: Cell, tracer: Any, clean_runs: CleanRuns) -> list[tuple[str, ...]]:
    how = (
        cell.line.new_tokens,
        cell.line.seed,
        tuple(sorted((k, repr(v)) for k, v in cell.line.generation.items())),
        cell.model.module.generation_config.to_json_string(),
    )
    key = CleanRuns.key(cell.model, tracer.inputs, "generate", how)
    known = clean_runs.get(key) if key is not None else None
    if known is None:
        watching = contextlib.nullcontext({}) if cell.stream else _progress(cell)
        with _seeded(cell), watching as extra, _begin(cell, False, **extra) as again:
            sequences = again.result
        known = _new_texts(cell, sequences, again.begin)
        if key is not None:
            clean_runs.put(key, cell.model, known)
    return known


def _new_texts(cell: Cell, sequences: Any, begin: int) -> list[tuple[str, ...]]:
    """The new tokens of each prompt, up to the end of the text; the first stands at `begin`."""
    sequences = getattr(sequences, "sequences", sequences)
    if sequences is None or not cell.outcome.rows:
        return []
    end = set(_settings(cell).ends)
    texts = []
    for ids in sequences[:, begin:].tolist():
        stop = next((k + 1 for k, each in enumerate(ids) if each in end), len(ids))
        texts.append(tuple(token_texts(cell.model.tokenizer, ids[:stop])))
    return texts

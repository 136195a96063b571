"""`model.scan(x)`: what every module takes and gives, without weights and without computing.

The forward runs on fake tensors: shapes and dtypes flow, numbers do not, and no memory is used.
It runs in a copy of the module tree, so nothing is hooked or moved in the user's model.
"""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from nnsight_magic.engine.insides import torch_insides, transformers_insides
from nnsight_magic.engine.running.inputs import Inputs
from nnsight_magic.engine.values.containers import first_argument, is_container
from nnsight_magic.engine.values.fit import fit
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.value import BlockValue, as_value
from nnsight_magic.errors import ScanError
from nnsight_magic.numbered import Run, runs

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Shape(NamedTuple):
    """Shape and dtype of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __repr__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {self.shape}"


@dataclass
class Scanned:
    """What one module takes and gives, at its first call.

    Attributes:
        kind: the name of its class.
        inputs: `(args, kwargs)`, with a `Shape` in the place of every tensor.
        output: what it returns, likewise.
        calls: how often it is called in one forward.
        order: when it has run, counted over all modules from 0; the root is the last.
    """

    kind: str
    inputs: tuple[tuple, dict]
    output: Any = None
    calls: int = 1
    order: int = -1

    @property
    def input(self) -> Any:
        """The first argument."""
        return first_argument(*self.inputs)


class Scan(Mapping):
    """Modules by path, `""` for the root, in the order in which they begin to run.

    A handle may be in the brackets too. Modules that this input does not reach are missing.
    """

    def __init__(self, modules: dict[str, Scanned], lists: set[str]):
        self._modules = modules
        self._lists = lists
        self._model: Any = None
        self._reader: Any = None

    def of(self, model: Any) -> Scan:
        """The same, which can be entered: `with model.scan(x):`."""
        self._model = model
        return self

    def __enter__(self) -> Scan:
        """A block in which `.output` and `.input` are tensors without numbers, on `"meta"`."""
        self._reader = ScanReader(self)
        self._model._turn.begin(self._reader, None)
        return self

    def __exit__(self, *_: Any) -> None:
        self._model._turn.end(self._reader, None)
        self._reader = None

    def __getitem__(self, module: Any) -> Scanned:
        return self._modules[getattr(module, "path", module)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        """One line a module; of equal modules in a row only the first is shown."""
        alike, rows, skipped = self._alike(), [], ""
        for path, scanned in self._modules.items():
            if skipped and path.startswith(skipped):
                continue
            skipped = ""
            run = alike.get(path)
            if run is not None and path.rpartition(".")[2] != run.first:
                skipped = path + "."
                continue
            many = run is not None and run.count > 1
            label = f"{path} … {run.last}" if run and many else path or "(the model)"
            times = f", {scanned.calls} times" if scanned.calls > 1 else ""
            rows.append(
                (label, scanned.kind + times, _brief(scanned.input), _brief(scanned.output))
            )
        widths = [max(len(row[i]) for row in rows) for i in range(3)] if rows else []
        for label, kind, given, gives in rows:
            yield f"{label:{widths[0]}}  {kind:{widths[1]}}  {given:{widths[2]}} → {gives}"

    def _alike(self) -> dict[str, Run[str]]:
        """The items of lists of modules, by path: the run of equal ones that each is in."""
        items: dict[str, list[tuple[str, str]]] = {}
        for path, scanned in self._modules.items():
            parent, _, name = path.rpartition(".")
            if parent in self._lists and name.isdecimal():
                facts = f"{scanned.kind} {scanned.inputs} {scanned.output} {scanned.calls}"
                items.setdefault(parent, []).append((name, facts))
        found: dict[str, Run[str]] = {}
        for parent, each in items.items():
            above = f"{parent}." if parent else ""
            for run in runs(sorted(each, key=lambda item: int(item[0]))):
                numbers = range(int(run.first), int(run.first) + run.count)
                found |= {f"{above}{number}": run for number in numbers}
        return found


class ScanReader:
    """In the place of a running trace: it knows shapes alone."""

    def __init__(self, scanned: Scan):
        self._scanned = scanned
        self._values: dict[tuple[str, str], Any] = {}

    def read(self, handle: Any, kind: str, path: tuple = (), raw: bool = False) -> Any:
        """The value of a site, its tensors without numbers."""
        found = self._value(handle, "inputs" if kind == "input" else kind)
        if kind == "output" and not raw and handle.is_block:
            hidden = found[0] if isinstance(found, tuple) else found
            return as_value(hidden, BlockValue)
        return self._given(found, handle, kind)

    def read_input(self, handle: Any) -> Any:
        """The first argument."""
        return self._given(self._value(handle, "input"), handle, "input")

    def read_part(self, place: Any) -> Any:
        """A value that has a name of its own."""
        found = self._value(place, place.kind)
        return found if place.layout is None else place.layout.take(found)

    def write_part(self, place: Any, new: Any) -> None:
        """What is written is what a later read gives, of the whole value too."""
        old = self._value(place, place.kind)
        new = fit(new, self.read_part(place), place._called)
        key = (place.path, place.kind)
        self._values[key] = new if place.layout is None else place.layout.put(old, new)

    def write(self, handle: Any, kind: str, new: Any, path: tuple = (), raw: bool = False) -> None:
        """What is written is what a later read gives; nothing runs that it could change."""
        self._values[handle.path, "inputs" if kind == "input" else kind] = new

    def write_input(self, handle: Any, new: Any) -> None:
        """The same of the first argument."""
        self._values[handle.path, "input"] = new

    def call(self, handle: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run a module on values without numbers: what it gives has none either."""
        module = handle.module
        memo: dict[int, Any] = {}
        for tensor in (*module.parameters(), *module.buffers()):
            meta = torch.empty_like(tensor, device="meta")
            parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(meta, requires_grad=False) if parameter else meta
        with torch.no_grad():
            return copy.deepcopy(module, memo)(*args, **kwargs)

    def _value(self, handle: Any, kind: str) -> Any:
        if handle._operation is not None:
            raise ScanError(
                f"{handle.name}: a scan knows modules, and no operations in them.\n"
                "Run a trace instead: every value there has its .shape and .dtype."
            )
        if handle.path not in self._scanned._modules:
            raise ScanError(f"{handle.name} does not run on this input, so it has no {kind}.")
        key = (handle.path, kind)
        if key not in self._values:
            self._values[key] = _without_numbers(getattr(self._scanned[handle], kind))
        return self._values[key]

    def _given(self, found: Any, handle: Any, kind: str) -> Any:
        if not is_container(found):
            return found
        parts = Parts(None, (), f"{handle.name}.{kind}")
        parts._hold(found)
        return parts

    def __getattr__(self, name: str) -> Any:
        raise ScanError(
            f"A scan knows shapes, and {name} needs a run.\nUse model.trace(x) instead."
        )


def _without_numbers(value: Any) -> Any:
    if isinstance(value, Shape):
        return as_value(torch.empty(value.shape, dtype=value.dtype, device="meta"))
    if isinstance(value, tuple):
        return tuple(_without_numbers(item) for item in value)
    if isinstance(value, dict):
        return {key: _without_numbers(item) for key, item in value.items()}
    return value


def scan(root: nn.Module, inputs: Inputs, arguments: dict[str, Any]) -> Scan:
    """Run `root` on the shapes of its arguments.

    Raises:
        ScanError: what the model computes next depends on numbers, which nobody has here.
    """
    mode = torch_insides.shapes_alone()
    if mode is None:
        raise ScanError(
            f"torch {torch.__version__} does not compute with shapes alone as earlier ones do.\n"
            "Run a trace instead: every value there has its .shape and .dtype."
        )
    twin = _twin(root, mode)
    with mode:
        args, kwargs = _faked((inputs.args, {**inputs.kwargs, **arguments}), mode)
        if kwargs.get("attention_mask") is not None:
            del kwargs["attention_mask"]  # models look into it; the shapes are the same without
        scanned: dict[str, Scanned] = {}
        finished = iter(range(10**9))
        for path, module in twin.named_modules():
            _watch(path, module, scanned, finished)
        with torch.no_grad(), _quiet():
            try:
                twin(*args, **kwargs)
            except Exception as error:
                last = next(reversed(scanned), "")
                raise ScanError(
                    f"{type(root).__name__} cannot be scanned: it needs numbers, not shapes alone, "
                    f"in {last or 'its forward'}.\nFound: {type(error).__name__}: "
                    f"{str(error).strip().splitlines()[0] if str(error).strip() else ''}\n"
                    "Run a trace instead: every value there has its .shape and .dtype."
                ) from error
    lists = {p for p, m in root.named_modules() if isinstance(m, nn.ModuleList | nn.Sequential)}
    return Scan(scanned, lists)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch logs the whole traceback of what fails on shapes; the error says it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _twin(root: nn.Module, mode: Any) -> nn.Module:
    """A copy of the module tree with fake weights and without anybody's hooks."""
    instead: dict[int, Any] = {}
    for module in root.modules():
        for hooks in _HOOKS:
            instead[id(module.__dict__.get(hooks))] = OrderedDict()
        for tensors in (module._parameters, module._buffers, vars(module)):
            for tensor in tensors.values():
                if isinstance(tensor, torch.Tensor) and id(tensor) not in instead:
                    instead[id(tensor)] = _fake(tensor, mode)
    instead.pop(id(None), None)
    # Not under the mode: before torch 2.13 it lets no tensor be copied that is not in `instead`.
    twin = copy.deepcopy(root, instead)
    if any(hasattr(module, "_hf_hook") for module in twin.modules()):
        from accelerate.hooks import remove_hook_from_module

        remove_hook_from_module(twin, recurse=True)
    for module in twin.modules():
        transformers_insides.without_a_look_at_padding(module)
        config: Any = getattr(module, "config", None)
        if getattr(config, "_experts_implementation", None) is not None:
            # The other ways to run experts look which tokens go where.
            config._experts_implementation = "batched_mm"
    return twin


def _fake(tensor: torch.Tensor, mode: Any) -> torch.Tensor:
    with mode:
        fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(fake, requires_grad=False)
        return fake


def _watch(path: str, module: nn.Module, scanned: dict[str, Scanned], finished: Iterator) -> None:
    def begins(module: nn.Module, args: tuple, kwargs: dict) -> None:
        if path in scanned:
            scanned[path].calls += 1
        else:
            scanned[path] = Scanned(type(module).__name__, _shapes((args, kwargs)))

    def ends(module: nn.Module, args: tuple, output: Any) -> None:
        if scanned[path].order < 0:
            scanned[path].output, scanned[path].order = _shapes(output), next(finished)

    module.register_forward_pre_hook(begins, with_kwargs=True)
    module.register_forward_hook(ends)


def _faked(value: Any, mode: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device="cpu")
    if type(value) in (tuple, list):
        return type(value)(_faked(item, mode) for item in value)
    if isinstance(value, dict):
        return {key: _faked(item, mode) for key, item in value.items()}
    return value


def _shapes(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return Shape(tuple(value.shape), value.dtype)
    if isinstance(value, tuple | list):
        return tuple(_shapes(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _shapes(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else type(value)


def _brief(value: Any) -> str:
    if isinstance(value, Shape):
        return repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(_brief(item) for item in value)})"
    if isinstance(value, dict):
        return ", ".join(
            f"{key}: {_brief(item)}" for key, item in value.items() if item is not None
        )
    return value.__name__ if isinstance(value, type) else repr(value)

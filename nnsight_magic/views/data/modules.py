"""A module tree as values: what a tree view shows of a model, with every block described once.

Models repeat themselves: thirty blocks differ in their weights and in nothing that a tree shows.
So the tree is kept as its distinct subtrees, and a model of 100,000 modules takes the space of the
few dozen kinds of module in it.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nnsight_magic.numbered import runs
from nnsight_magic.views.data.wire import KindForm, NoteForm, TreeForm

NOTE_LENGTH = 120


@dataclass(frozen=True)
class Kind:
    """A distinct subtree.

    Attributes:
        class_name: of the module at its top.
        note: what the module says about itself, such as `in_features=576, out_features=1536`.
        parameters, bytes: of the whole subtree. A tied parameter counts wherever it is; only
            at the root it counts once.
        dtype, device: of its parameters, `mixed` where they differ, "" without parameters.
        children: name and kind of each child.
    """

    class_name: str
    note: str
    parameters: int
    bytes: int
    dtype: str
    device: str
    children: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ModuleTree:
    """All modules below one; build it with `describe`.

    Attributes:
        kinds: the distinct subtrees; those of the children come before that of the parent.
        root: the kind of the whole.
        size: how many modules there are.
        parameters, bytes: of the whole, a tied parameter counted once.
    """

    kinds: tuple[Kind, ...]
    root: int
    size: int
    parameters: int
    bytes: int

    def walk(self) -> Iterator[tuple[str, Kind]]:
        """Every path with its kind, parents first; the root's path is ""."""
        waiting = deque([("", self.root)])
        while waiting:
            path, number = waiting.popleft()
            kind = self.kinds[number]
            yield path, kind
            below = [(f"{path}.{name}" if path else name, child) for name, child in kind.children]
            waiting.extendleft(reversed(below))

    def count_at(self, pattern: str) -> int:
        """How many modules there are at such a place: `layers.*.mlp`, where `*` is any number."""
        reached = {self.root: 1}
        for part in pattern.split("."):
            below: dict[int, int] = {}
            for number, times in reached.items():
                for name, child in self.kinds[number].children:
                    if name == part or (part == "*" and name.isdecimal()):
                        below[child] = below.get(child, 0) + times
            reached = below
        return sum(reached.values())


@dataclass(frozen=True)
class ModuleNote:
    """What the last run says about a module.

    Attributes:
        input, output: the shapes, as text.
        saved: the names of variables that hold a tensor of it.
        wrote: whether the cell wrote to it.
        idle: whether it was not run.
    """

    input: str = ""
    output: str = ""
    saved: tuple[str, ...] = ()
    wrote: bool = False
    idle: bool = False

    def packed(self) -> NoteForm:
        """Only what there is, under short names."""
        note: NoteForm = {}
        if self.input:
            note["i"] = self.input
        if self.output:
            note["o"] = self.output
        if self.saved:
            note["s"] = list(self.saved)
        if self.wrote:
            note["w"] = 1
        if self.idle:
            note["n"] = 1
        return note


@dataclass
class _Builder:
    kinds: list[Kind] = field(default_factory=list)
    known: dict[tuple, int] = field(default_factory=dict)
    size: int = 0
    distinct: dict[int, Any] = field(default_factory=dict)  # parameters by identity

    def add(self, module: Any) -> int:
        """The number of the module's kind. Deep trees are walked without recursion."""
        done: dict[int, int] = {}
        stack = [(module, False)]
        while stack:
            each, ready = stack.pop()
            children = [(n, c) for n, c in each._modules.items() if c is not None]
            if not ready:
                if id(each) not in done:
                    stack.append((each, True))
                    stack.extend((child, False) for _, child in children)
                continue
            if id(each) not in done:
                done[id(each)] = self._kind(each, [(n, done[id(c)]) for n, c in children])
        self.size = self._count(done[id(module)], {})
        return done[id(module)]

    def _kind(self, module: Any, children: list[tuple[str, int]]) -> int:
        own = [p for p in module._parameters.values() if p is not None]
        self.distinct.update((id(p), p) for p in own)
        key = (
            type(module),
            module.extra_repr() if not children else "",
            tuple((tuple(p.shape), p.dtype, p.device) for p in own),
            tuple(children),
        )
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = len(self.kinds)
            self.kinds.append(self._described(type(module).__name__, key[1], own, children))
        return found

    def _described(
        self, name: str, note: str, own: list[Any], children: list[tuple[str, int]]
    ) -> Kind:
        below = [self.kinds[number] for _, number in children]
        dtypes = {_dtype(p) for p in own} | {kind.dtype for kind in below if kind.dtype}
        devices = {str(p.device) for p in own} | {kind.device for kind in below if kind.device}
        return Kind(
            name,
            note if len(note) <= NOTE_LENGTH else note[: NOTE_LENGTH - 1] + "…",
            sum(p.numel() for p in own) + sum(kind.parameters for kind in below),
            sum(p.numel() * p.element_size() for p in own) + sum(kind.bytes for kind in below),
            dtypes.pop() if len(dtypes) == 1 else "mixed" if dtypes else "",
            devices.pop() if len(devices) == 1 else "mixed" if devices else "",
            tuple(children),
        )

    def _count(self, number: int, known: dict[int, int]) -> int:
        """Modules of a kind; children's kinds have smaller numbers."""
        for k in range(number + 1):
            known[k] = 1 + sum(known[child] for _, child in self.kinds[k].children)
        return known[number]


def _dtype(parameter: Any) -> str:
    return str(parameter.dtype).removeprefix("torch.")


def describe(module: Any) -> ModuleTree:
    """The tree of any `torch.nn.Module`; its weights may be on the meta device."""
    builder = _Builder()
    root = builder.add(module)
    parameters = builder.distinct.values()
    count = sum(p.numel() for p in parameters)
    size = sum(p.numel() * p.element_size() for p in parameters)
    builder.kinds[root] = replace(builder.kinds[root], parameters=count, bytes=size)
    return ModuleTree(tuple(builder.kinds), root, builder.size, count, size)


def opened_first(tree: ModuleTree) -> list[str]:
    """The path down to where the model branches out: mostly the one module with all blocks."""
    path, number, found = "", tree.root, []
    while True:
        children = tree.kinds[number].children
        if not children:
            return found
        name, number_below = max(children, key=lambda child: tree.kinds[child[1]].parameters)
        below = tree.kinds[number_below]
        if len(found) > 3 or len(below.children) < 2 or _repeats(below.children):
            return found
        if len(children) > 8:
            return found
        path, number = (f"{path}.{name}" if path else name), number_below
        found.append(path)


def _repeats(children: tuple[tuple[str, int], ...]) -> bool:
    return len(children) > 1 and all(name.isdecimal() for name, _ in children)


def packed_kinds(tree: ModuleTree, numbers: Any) -> list[KindForm]:
    """Kinds as the browser reads them, by number. Runs of alike numbered children are one entry."""
    return [[number, *_packed(tree.kinds[number])] for number in numbers]


def _packed(kind: Kind) -> list[Any]:
    """`[class, note, parameters, bytes, dtype, device, [name, kind, name, kind, count, …]]`."""
    together = [
        [run.first, run.item, run.count] if run.count > 1 else [run.first, run.item]
        for run in runs(kind.children)
    ]
    facts = [kind.class_name, kind.note, kind.parameters, kind.bytes, kind.dtype, kind.device]
    return [*facts, together]


def packed_tree(tree: ModuleTree, most: int) -> bytes:
    """The tree as JSON of at most about `most` bytes, from the root down; the rest by question."""
    sent, size = [], 0
    waiting, seen = deque([tree.root]), {tree.root}
    while waiting and size < most:
        number = waiting.popleft()
        entry = packed_kinds(tree, [number])[0]
        sent.append(entry)
        size += len(json.dumps(entry, separators=(",", ":")))
        for _, child in tree.kinds[number].children:
            if child not in seen:
                seen.add(child)
                waiting.append(child)
    facts: TreeForm = {
        "root": tree.root,
        "size": tree.size,
        "parameters": tree.parameters,
        "bytes": tree.bytes,
        "kinds": sent,
        "whole": not waiting,
    }
    return json.dumps(facts, separators=(",", ":")).encode()


_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)")


def after_run(
    before: Mapping[str, ModuleNote], run: Mapping[str, ModuleNote]
) -> dict[str, ModuleNote]:
    """Notes with a further run's in place: what was written and what was idle is the last run's,
    shapes and saved tensors are of the last run that has them."""
    anew = {name for note in run.values() for name in note.saved}
    notes = {}
    for path in (*before, *(each for each in run if each not in before)):
        old, new = before.get(path, ModuleNote()), run.get(path, ModuleNote())
        kept = tuple(name for name in old.saved if name not in anew)
        note = replace(
            new,
            input=new.input or old.input,
            output=new.output or old.output,
            saved=kept + new.saved,
        )
        if note != ModuleNote():
            notes[path] = note
    return notes


def packed_notes(notes: Mapping[str, ModuleNote], tree: ModuleTree) -> dict[str, NoteForm]:
    """Notes by path; what most blocks have in common is written once, under `layers.*.mlp`.

    That speaks of every module at such a place, so there is none unless each of them has a note.
    """
    patterns: dict[str, dict[str, NoteForm]] = {}
    for path, note in notes.items():
        patterns.setdefault(_NUMBER.sub("*", path), {})[path] = note.packed()
    found: dict[str, NoteForm] = {}
    for pattern, members in patterns.items():
        all_noted = len(members) > 2 and tree.count_at(pattern) == len(members)
        common = _most_common(list(members.values())) if all_noted else None
        if common is not None:
            found[pattern] = common
        found |= {path: note for path, note in members.items() if note != common}
    return found


def _most_common(notes: list[NoteForm]) -> NoteForm:
    counts: dict[str, int] = {}
    for note in notes:
        key = json.dumps(note, sort_keys=True)
        counts[key] = counts.get(key, 0) + 1
    return json.loads(max(counts, key=counts.__getitem__))

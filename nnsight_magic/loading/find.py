"""What a model's name stands for: a place on this machine, or a name on the hub.

Nothing is loaded here. A name that stands for nothing ends in one message: what was looked for
and where, what is near, what to do next.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from nnsight_magic.errors import HubAnswer, ModelNotFound
from nnsight_magic.loading.demo import HUB_NAME
from nnsight_magic.loading.found import Found
from nnsight_magic.loading.hub import ask_hub, cached_file, cached_names

# Names that people write from memory, so that a slip of the pen finds its model.
WELL_KNOWN = (
    "gpt2",
    "openai-community/gpt2",
    "openai-community/gpt2-medium",
    "EleutherAI/pythia-70m",
    "EleutherAI/pythia-160m",
    "EleutherAI/gpt-j-6b",
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Llama-3.1-8B",
    "google/gemma-2-2b",
    "Qwen/Qwen2.5-0.5B",
    "mistralai/Mistral-7B-v0.1",
    "state-spaces/mamba-130m-hf",
    "google-t5/t5-small",
    HUB_NAME,
)

WHAT_TO_GIVE = (
    'Give "demo", a name on the hub, a folder as save_pretrained writes it, or a .gguf file.'
)

ADAPTER_FILE = "adapter_config.json"

# What the hub allows as a name: one part, or an owner and one part.
HUB_PATTERN = re.compile(r"[\w.-]+(/[\w.-]+)?")


def find(
    name: str, *, gguf_file: str | None = None, demo: Callable[[], Path] | None = None, **place
) -> Found:
    """Find out what `name` stands for.

    Args:
        gguf_file: a file in the folder or on the hub, where the user named one.
        demo: gives the demo model's folder, or raises `ModelNotFound`.
        place: `revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        ModelNotFound: it stands for nothing.
    """
    if not name.strip():
        raise ModelNotFound(f"The name of the model is empty.\n{WHAT_TO_GIVE}")
    if name == "demo" and demo is not None and not Path(name).is_dir():
        return _demo(demo, place)
    path = Path(name).expanduser()
    if path.is_file():
        return _file(name, path)
    if is_adapter(path):
        return _adapter(name, path, demo, place)
    if path.is_dir() and (found := _folder(name, path, gguf_file, place.get("subfolder"))):
        return found
    if _looks_like_a_path(name):
        raise _no_such_path(name, path)
    return _on_hub(name, gguf_file, **place)


def _demo(demo: Callable[[], Path], place: dict) -> Found:
    try:
        return Found("demo", str(demo()), demo=True)
    except ModelNotFound as problem:
        try:
            found = _on_hub(HUB_NAME, None, **place)
        except ModelNotFound:
            raise ModelNotFound(
                f"{problem.message}\nOtherwise it comes from the hub as {HUB_NAME}, "
                "which was tried and cannot be reached."
            ) from None
        return Found("demo", HUB_NAME, local=False, offline=found.offline, demo=True)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter, and not the model that it is for."""
    return (folder / ADAPTER_FILE).is_file() and not (folder / "config.json").is_file()


def _adapter(name: str, path: Path, demo: Callable[[], Path] | None, place: dict) -> Found:
    """The model that an adapter was trained on, with the adapter on top."""
    try:
        base = json.loads((path / ADAPTER_FILE).read_text())["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError, OSError):
        base = None
    if not isinstance(base, str) or not base:
        raise ModelNotFound(
            f"{path} holds an adapter, and its {ADAPTER_FILE} does not say of which model.\n"
            'Write its name or folder there as "base_model_name_or_path".'
        )
    # Where the adapter's files come from says nothing of its model's.
    place = {key: value for key, value in place.items() if key not in ("revision", "subfolder")}
    try:
        found = find(base, demo=demo, **place)
    except ModelNotFound as problem:
        raise ModelNotFound(
            f"{path} holds an adapter of {base!r}, which is not to be had.\n{problem.message}"
        ) from None
    return replace(found, name=name, adapter=str(path.resolve()))


def _file(name: str, path: Path) -> Found:
    if path.suffix == ".gguf":
        return Found(name, str(path.parent.resolve()), gguf_file=path.name)
    if path.name in ("config.json", "model.safetensors"):
        hint = f'Give the folder that holds it: "{path.parent}"'
    else:
        hint = "Give a folder as save_pretrained writes it, or a .gguf file."
    raise ModelNotFound(f"{name} is a file, and not one that holds a whole model.\n{hint}")


def _folder(name: str, path: Path, gguf_file: str | None, subfolder: str | None) -> Found | None:
    """The model in a folder; `None` for a folder that is there by chance and holds none."""
    inner = path / (subfolder or "")
    if gguf_file is not None:
        if (inner / gguf_file).is_file():
            return Found(name, str(inner), gguf_file=gguf_file)
        raise ModelNotFound(f"No file {gguf_file} in {inner}.\n{_what_is_in(inner)}")
    if (inner / "config.json").is_file():
        return Found(name, str(path))
    ggufs = sorted(file.name for file in inner.glob("*.gguf"))
    if len(ggufs) == 1:
        return Found(name, str(inner), gguf_file=ggufs[0])
    if ggufs:
        raise ModelNotFound(
            f"{inner} holds {len(ggufs)} GGUF files; say which:\n"
            + "\n".join(f'    "{inner / file}"' for file in ggufs[:8])
        )
    return None


def _looks_like_a_path(name: str) -> bool:
    rooted = name.startswith((".", "/", "~")) or Path(name).is_absolute()
    return rooted or name.endswith(".gguf") or not HUB_PATTERN.fullmatch(name)


def _no_such_path(name: str, path: Path) -> ModelNotFound:
    if path.is_dir():
        lines = [f"The folder {name} holds no model: it has no config.json and no .gguf file."]
        lines.append(_what_is_in(path))
        near = [str(folder) for folder in _model_folders(path)]
    else:
        lines = [f'There is no model "{name}".', f"Looked for the file or folder {path.absolute()}"]
        parent = next(p for p in (path.parent, *path.parents) if p.is_dir())
        if parent != path.parent:
            lines.append(
                f"The path ends at {parent.absolute()}, which has no {_below(path, parent)}."
            )
        near = _near(name, [str(folder) for folder in _model_folders(parent)])
    lines += _did_you_mean(near)
    lines.append(WHAT_TO_GIVE)
    return ModelNotFound("\n".join(lines))


def _below(path: Path, parent: Path) -> str:
    return path.absolute().relative_to(parent.absolute()).parts[0]


def _on_hub(name: str, gguf_file: str | None, **place) -> Found:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as problem:
        why = HubAnswer(f"no model can have it ({problem})", reached=True)
        raise _not_on_hub(name, why) from None
    asked = {key: place[key] for key in ("revision", "subfolder", "token") if place.get(key)}
    try:
        if place.get("local_files_only"):
            raise HubAnswer("local_files_only was given, so the hub was not asked", reached=False)
        ask_hub(name, **asked)
    except HubAnswer as answer:
        if not answer.reached and cached_file(name, gguf_file or "config.json", **place):
            return Found(name, name, gguf_file, local=False, offline=True)
        raise _not_on_hub(name, answer) from None
    return Found(name, name, gguf_file, local=False)


def _not_on_hub(name: str, answer: HubAnswer) -> ModelNotFound:
    lines = [
        f'There is no model "{name}" here.',
        f"Looked for: a folder or file {Path(name).absolute()}",
        f"            the name on the hub: {answer}",
    ]
    local = [str(folder) for folder in _model_folders(Path())]
    cached = cached_names()
    if name not in WELL_KNOWN:
        lines += _did_you_mean(_near(name, ["demo", *local, *cached, *WELL_KNOWN]))
    have = ["demo", *local, *cached]
    if not answer.reached:
        lines.append("To be had here without the hub: " + ", ".join(have[:6]))
    if "terms" in str(answer):
        lines.append(f"Accept them on the model's page, then run:  hf auth login   ({name})")
    else:
        lines.append(WHAT_TO_GIVE)
    return ModelNotFound("\n".join(lines))


def _near(name: str, names: Iterable[str]) -> list[str]:
    """Up to three of `names` that are close to one, the closest first."""
    scored = {known: _likeness(name, known) for known in names if known != name}
    near = sorted(
        (known for known in scored if scored[known] > 0.7), key=scored.__getitem__, reverse=True
    )
    # The demo model is that one, and is here.
    return list(dict.fromkeys("demo" if known == HUB_NAME else known for known in near))[:3]


def _likeness(name: str, known: str) -> float:
    """From 0 to 1, judged by the whole names and by their last parts."""
    name, known = name.lower(), known.lower()
    short, short_known = Path(name).name, Path(known).name
    if min(len(short), len(short_known)) > 3 and (
        short.startswith(short_known) or short_known.startswith(short)
    ):
        return 0.8
    pairs = ((name, known), (short, short_known))
    return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)


def _did_you_mean(near: list[str]) -> list[str]:
    return [f"Did you mean: {'   '.join(repr(n) for n in near[:3])}"] if near else []


def _model_folders(parent: Path, most: int = 200) -> Iterator[Path]:
    """Folders right below one that hold a model, and GGUF files in it."""
    try:
        below = sorted(parent.iterdir())[:most]
    except OSError:
        return
    for path in below:
        if path.suffix == ".gguf" or (path / "config.json").is_file() or is_adapter(path):
            yield path


def _what_is_in(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as problem:
        return f"It cannot be looked into: {problem.strerror}."
    shown = ", ".join(names[:6]) + (f", … ({len(names)} in all)" if len(names) > 6 else "")
    return f"It holds: {shown}" if names else "It is empty."

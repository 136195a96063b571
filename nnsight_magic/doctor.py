"""`python -m nnsight_magic doctor`: what is wrong with an installation, and what mends it.

Each check is a function that gives findings. Nothing here may need what it checks: a package that
is missing or broken is a finding and not a traceback.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from nnsight_magic.version import __version__

OK, NOTE, WRONG = "ok", "note", "wrong"
_MARKS = {OK: "✓", NOTE: "·", WRONG: "✗"}
_IMPORTED = ("torch", "transformers", "IPython", "ipywidgets", "anywidget", "xarray", "safetensors")
_ROOM = 2 * 2**30  # bytes that the demo model takes on the disk and in memory, with some to spare


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: what it is of.
        state: `"ok"`; `"note"`, nothing is wrong but something is not there; or `"wrong"`.
        found: in words.
        mend: what to type or do, if anything.
    """

    about: str
    state: str
    found: str
    mend: str = ""


def examine() -> list[Finding]:
    """All findings; a check that fails is a finding itself."""
    found = []
    for check in CHECKS:
        try:
            found += check()
        except Exception as error:  # the doctor must reach the other checks
            name = check.__name__.strip("_").replace("_", " ")
            found.append(Finding(name, WRONG, f"{type(error).__name__}: {error}"))
    return found


def as_text(findings: list[Finding]) -> str:
    """The findings as lines, what is wrong with its remedy below it."""
    wide = max(len(each.about) for each in findings)
    lines = []
    for each in findings:
        lines.append(f"{_MARKS[each.state]} {each.about:<{wide}}  {each.found}")
        if each.mend:
            lines.append(f"  {'':<{wide}}  → {each.mend}")
    wrong = sum(each.state == WRONG for each in findings)
    end = "Nothing is wrong." if not wrong else f"{wrong} wrong: do what stands behind the arrows."
    return "\n".join([*lines, "", end])


def as_json(findings: list[Finding]) -> str:
    return json.dumps({"version": __version__, "findings": [asdict(f) for f in findings]}, indent=1)


# -- the checks -------------------------------------------------------------------------------


def _python() -> Iterator[Finding]:
    told = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    yield Finding("Python", OK, told)
    yield Finding("nnsight_magic", OK, f"{__version__} at {Path(__file__).parent}")


def _packages() -> Iterator[Finding]:
    """Whether what this package requires is there, in a version that it can use."""
    try:
        required = metadata.requires("nnsight_magic") or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "installation", NOTE, "it is on the path but not installed: versions are not checked",
            "pip install . in the project's folder",
        )  # fmt: skip
        return
    for requirement in map(Requirement, required):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    name = requirement.name
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, WRONG, "not installed", f'pip install "{requirement}"')
    if not requirement.specifier.contains(version, prereleases=True):
        found = f"{version}, and {requirement.specifier} is needed"
        return Finding(name, WRONG, found, f'pip install "{requirement}"')
    return Finding(name, OK, version)


def _imports() -> Iterator[Finding]:
    """Packages that are there and cannot be imported: two that do not fit each other, mostly."""
    for name in _IMPORTED:
        try:
            importlib.import_module(name)
        except BaseException as error:  # SystemExit and the like: some packages do that
            if isinstance(error, KeyboardInterrupt):
                raise
            found = f"cannot be imported: {type(error).__name__}: {str(error)[:200]}"
            yield Finding(name, WRONG, found, f"pip install --force-reinstall {name}")


def _devices() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, whole = torch.cuda.mem_get_info(number)
            told = f"{torch.cuda.get_device_name(number)}, {_size(free)} of {_size(whole)} free"
            yield Finding(f"cuda:{number}", OK, told)
    elif torch.version.cuda:
        yield Finding(
            "device", NOTE, f"torch is built for CUDA {torch.version.cuda} and finds no device",
            "nvidia-smi says whether the driver sees one",
        )  # fmt: skip
    elif torch.backends.mps.is_available():
        yield Finding("device", OK, "mps")
    else:
        yield Finding("device", OK, f"the CPU alone, {torch.get_num_threads()} threads")


def _memory() -> Iterator[Finding]:
    free = _free_memory()
    if free is not None:
        small = free < _ROOM
        mend = "shut down kernels that are not used" if small else ""
        yield Finding("memory", NOTE if small else OK, f"{_size(free)} free", mend)


def _front_end() -> Iterator[Finding]:
    """The code of the views, and the side panel."""
    folder = Path(__file__).parent / "views/static"
    missing = [
        name for name in ("loader.js", "views.js", "page.js") if not (folder / name).exists()
    ]
    mend = "make widgets in the project's folder, or install the wheel"
    if missing:
        yield Finding("views", WRONG, f"{', '.join(missing)} missing in {folder}", mend)
    else:
        yield Finding("views", OK, str(folder))
    yield _panel(mend)


def _panel(mend: str) -> Finding:
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return Finding("side panel", NOTE, "Jupyter is not installed here")
    for place in map(Path, jupyter_path("labextensions")):
        file = place / "nnsight-magic/package.json"
        if file.exists():
            version = json.loads(file.read_text(encoding="utf-8")).get("version")
            if version != __version__:
                found = f"of version {version}, at {place}"
                return Finding("side panel", WRONG, found, f"remove {file.parent}, and {mend}")
            return Finding("side panel", OK, str(file.parent))
    return Finding("side panel", NOTE, "not found where this Python's Jupyter looks", mend)


def _jupyter() -> Iterator[Finding]:
    """Whether the kernel that notebooks call python3 is this Python."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        yield Finding(
            "kernel", NOTE, "Jupyter is not installed here", 'pip install "nnsight_magic[notebook]"'
        )
        return
    for name in ("jupyterlab", "notebook"):
        try:
            yield Finding(name, OK, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, NOTE, "not installed in this Python")
    try:
        started = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        yield Finding("kernel", WRONG, "there is no kernel python3", "pip install ipykernel")
        return
    # A bare name is what Jupyter replaces by the Python that it runs in.
    own = sys.executable if Path(started).name == started else started
    if Path(own).absolute() != Path(sys.executable).absolute():
        yield Finding(
            "kernel", WRONG, f"notebooks start {own}, which is another Python than this one",
            f"{sys.executable} -m ipykernel install --sys-prefix",
        )  # fmt: skip
    else:
        yield Finding("kernel", OK, f"python3 is {own}")


def _cache() -> Iterator[Finding]:
    """Where the converted demo model is kept."""
    from nnsight_magic.loading.demo import cache_folder

    folder = cache_folder()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Finding(
            "cache", WRONG, f"{folder} cannot be written: {error.strerror}",
            "set NNSIGHT_MAGIC_CACHE to a folder that can",
        )  # fmt: skip
        return
    free = shutil.disk_usage(there).free
    if free < _ROOM:
        yield Finding("cache", NOTE, f"{folder}, {_size(free)} free", "make room on that disk")
    else:
        yield Finding("cache", OK, f"{folder}, {_size(free)} free")


def _demo() -> Iterator[Finding]:
    from nnsight_magic.loading.demo import packaged_gguf

    try:
        yield Finding("demo model", OK, str(packaged_gguf()))
    except Exception as error:
        yield Finding("demo model", NOTE, "not installed", str(error).strip().splitlines()[-1])


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _packages, _imports, _devices, _memory, _front_end, _jupyter, _cache, _demo,
)  # fmt: skip


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GB"


def _free_memory() -> int | None:
    """Bytes that this process may still take: of the machine, or of its control group if less."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        told = Path("/proc/meminfo").read_text(encoding="ascii")
        free = next(
            int(line.split()[1]) * 1024 for line in told.splitlines() if "MemAvailable" in line
        )
    except (OSError, ValueError, AttributeError, StopIteration):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text()) - int(
            (group / "memory.current").read_text()
        )
    except (OSError, ValueError):
        return free
    return min(free, limit)

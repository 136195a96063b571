"""The seed document's code blocks, with the few changes that let them run here.

`blocks/*.txt` are the blocks as the document prints them. What is changed is said in full by
`adapted`: the import, the model's name, the paths of an equal-shaped model, the device that the
`device_map="auto"` block expects where there is no accelerator, and every `try`/`except` that
would swallow an error: it raises again.
"""

from __future__ import annotations

import ast
from pathlib import Path

BLOCKS = sorted(p.stem for p in (Path(__file__).parent / "blocks").glob("*.txt"))

# How SmolLM2, a Llama, calls what GPT-2's paths name.
LLAMA_PATHS = {
    "model.transformer.h": "model.model.layers",
    "transformer.wte": "model.embed_tokens",
    "transformer.h": "model.layers",
    "config.n_embd": "config.hidden_size",
}


def adapted(block: str, model_id: str, paths: dict[str, str] | None = None) -> str:
    """The text of a block that runs on `model_id`."""
    text = (Path(__file__).parent / "blocks" / f"{block}.txt").read_text()
    changes = {
        "from nnsight import LanguageModel": "from nnsight_magic import LanguageModel",
        '"openai-community/gpt2"': repr(model_id),
        "param_device.type == 'cuda'": (
            "param_device.type == ('cuda' if torch.cuda.is_available() else 'cpu')"
        ),
        **(paths or {}),
    }
    for old, new in changes.items():
        text = text.replace(old, new)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            node.body.append(ast.Raise())
    return ast.unparse(ast.fix_missing_locations(tree))


def script(block: str, model_id: str, paths: dict[str, str] | None = None) -> str:
    """The block as a script of its own: with the model that it assumes to be there."""
    prelude = (
        "from nnsight_magic import LanguageModel\n"
        f"model = LanguageModel({model_id!r}, device_map='cpu')\n"
    )
    return prelude + adapted(block, model_id, paths)

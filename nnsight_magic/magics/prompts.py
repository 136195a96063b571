"""What a cell runs the model on: the prompts of its line, of a variable or of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnsight_magic.engine.running.inputs import WholeText
from nnsight_magic.errors import OptionError
from nnsight_magic.language.names import TRACE_NAMES
from nnsight_magic.magics.options import Line
from nnsight_magic.near import did_you_mean


def prompts_of(line: Line, model: Any, namespace: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
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

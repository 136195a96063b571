"""What a result remembers of how it was measured, so that one point of it can be measured again.

It stands in `attrs["cell"]` as JSON, since an attribute of a file is a text or a number. It goes
where the numbers go (selections, files, pickles) and is dropped where they become others: the mean
over an axis is no number that a run gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nnsight_magic.analyses.metric import Metric, answer_ids
from nnsight_magic.analyses.opening import mark_of
from nnsight_magic.analyses.pair import ids_of_prompt
from nnsight_magic.analyses.recipe_name import RECIPE as RECIPE
from nnsight_magic.errors import NnsightError
from nnsight_magic.language.tokens import token_texts


def recipe(
    analysis: str, model: Any, prompts: Mapping[str, Any], metric: Metric, **more: Any
) -> str:
    """The recipe of an analysis as JSON.

    Args:
        analysis: which it is.
        model: its tokenizer says whether a prompt can be written as a text.
        prompts: what it ran on, by name: texts, or ids `(1, tokens)`; all of an answer but its last
            token is put behind them.
        metric: what was measured.
        more: what else a point of it needs: numbers, texts and lists of them.
    """
    texts = {name: written(model, prompt, metric.forced) for name, prompt in prompts.items()}
    told: dict[str, Any] = {"analysis": analysis, "model": mark_of(model), "prompts": texts, **more}
    if any(text is None for text in texts.values()):
        told["no"] = (
            "a prompt was given as token ids, and there is no text that is read as just these"
        )
    if metric.function is not None:
        told["no"] = f"it was measured by a function, {metric.words}"
    told["metric"] = {
        "kind": metric.kind,
        "wide": next(model.module.parameters()).dtype == torch.float32,
        "answer": [_token(model, each) for each in metric.answer],
        "versus": [_token(model, each) for each in metric.versus],
    }
    return json.dumps(told)


def recipe_of_reading(
    analysis: str, model: Any, ran: Any, answer: Metric | None = None, **more: Any
) -> str:
    """The recipe of numbers that were read off one run.

    Args:
        ran: what the run was of.
        answer: the metric whose answer is followed, if any.
        more: as of `recipe`.
    """
    prompt = _prompt(model, ran)
    if prompt is None or getattr(model, "tokenizer", None) is None:
        return json.dumps({"no": "its prompt was no text, and no line of a cell can give it"})
    metric = answer or Metric("log-probability", "", ())
    return recipe(analysis, model, {"main": prompt}, metric, **more)


def _prompt(model: Any, ran: Any) -> Any:
    """What a trace ran on as a text or ids `(1, tokens)`; `None` where it was more than that."""
    if isinstance(ran, Mapping):
        ids, mask = ran.get("input_ids"), ran.get("attention_mask")
        more = set(ran) - {"input_ids", "attention_mask"}
        if more or not isinstance(ids, torch.Tensor) or not (mask is None or bool(mask.all())):
            return None
        return ids
    both = getattr(getattr(model._root, "config", None), "is_encoder_decoder", False)
    return ran if isinstance(ran, str | torch.Tensor) and not both else None


def written(model: Any, prompt: Any, forced: Sequence[int]) -> str | None:
    """A text that is read as these ids with those of `forced` behind them; `None` without one."""
    if type(prompt) is str and not forced:
        return prompt
    ids = ids_of_prompt(model, prompt)[0].tolist() + list(forced)
    return text_of(model, ids)


def text_of(model: Any, ids: Sequence[int]) -> str | None:
    """A text that is read as these ids; `None` where there is none."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return None
    for skip in (False, True):
        text = tokenizer.decode(ids, skip_special_tokens=skip)
        if isinstance(text, str) and ids_of_prompt(model, text)[0].tolist() == list(ids):
            return text
    return None


def _token(model: Any, token: int) -> str | int:
    """A token as a cell writes it: its text, where the text is read as the token."""
    (text,) = token_texts(getattr(model, "tokenizer", None), [token])
    try:
        return text if answer_ids(model, text) == (token,) else token
    except NnsightError:
        return token

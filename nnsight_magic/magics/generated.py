"""The texts of a generation, with the cell's writes and without them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nnsight_magic.language.tokens import PromptRow, token_texts
from nnsight_magic.magics.cell import EndOfGeneration, Running
from nnsight_magic.magics.predict import CleanRuns
from nnsight_magic.magics.trace import begin, progress, seeded
from nnsight_magic.results.record import PromptResult, prompt_of

Text = tuple[str, ...]  # its tokens


def generations(
    running: Running,
    end: EndOfGeneration | None,
    texts: Sequence[tuple[str, PromptRow]],
    wrote: bool,
    clean_runs: CleanRuns,
) -> tuple[PromptResult, ...]:
    """The prompts with what was generated; generates without the writes, unless that is known."""
    asked = running.asked
    now = [] if end is None else _new_texts(running, end.sequences, end.begin)
    clean: list[Text] = []
    samples = asked.settings.may_be("do_sample")
    if (
        end is not None
        and now
        and wrote
        and asked.line.compare
        and (not samples or asked.line.seed is not None)
    ):
        clean = _clean_texts(running, end.inputs, clean_runs)
    prompts = []
    for index, (text, row) in enumerate(texts):
        after, before = (_first_text(each, index, len(running.rows)) for each in (now, clean))
        steps = running.stream.candidates(index) if running.stream else ()
        steps = steps[: len(after)]
        prompt = prompt_of(row, text)
        prompts.append(replace(prompt, generated=after, generated_clean=before, steps=steps))
    return tuple(prompts)


def several_texts(running: Running, end: EndOfGeneration) -> list[str]:
    """That each prompt has several texts, where one is shown."""
    sequences = _ids(end.sequences)
    if sequences is None or not running.rows:
        return []
    each = len(sequences) // len(running.rows)
    if each < 2:
        return []
    return [f"Each prompt has {each} texts, of which the first is shown."]


def _ids(sequences: Any) -> Any:
    """Token ids `(texts, tokens)`, as they are or in an output of transformers' own."""
    return getattr(sequences, "sequences", sequences)


def _first_text(texts: Sequence[Text], index: int, prompts: int) -> Text:
    """The first text of a prompt: each may have several, one after another."""
    each = max(1, len(texts) // max(1, prompts))
    return texts[index * each] if index * each < len(texts) else ()


def _clean_texts(running: Running, inputs: dict[str, Any], clean_runs: CleanRuns) -> list[Text]:
    asked = running.asked
    line, model = asked.line, asked.model
    how = (
        line.new_tokens,
        line.seed,
        tuple(sorted((k, repr(v)) for k, v in line.generation.items())),
        model.module.generation_config.to_json_string(),
    )
    key = CleanRuns.key(model, inputs, "generate", how)
    known = clean_runs.get(key) if key is not None else None
    if known is None:
        watching = contextlib.nullcontext({}) if running.stream else progress(asked)
        with seeded(line), watching as extra, begin(running.prepared, False, **extra) as again:
            sequences = again.result
        known = _new_texts(running, sequences, again.begin)
        if key is not None:
            clean_runs.put(key, model, known)
    return known


def _new_texts(running: Running, sequences: Any, first: int) -> list[Text]:
    """The new tokens of each prompt, up to the end of the text; the first stands at `first`."""
    sequences = _ids(sequences)
    if sequences is None or not running.rows:
        return []
    end = set(running.asked.settings.ends)
    texts = []
    for ids in sequences[:, first:].tolist():
        stop = next((k + 1 for k, each in enumerate(ids) if each in end), len(ids))
        texts.append(tuple(token_texts(running.asked.model.tokenizer, ids[:stop])))
    return texts

"""What a result consists of, for its live view and its static page: words, strips, steps."""

from __future__ import annotations

from collections.abc import Sequence

from nnsight_magic.results.record import PromptResult, RunRecord
from nnsight_magic.views.data.strips import Step, TokenStrip
from nnsight_magic.views.data.two_texts import TwoTexts, two_texts


def facts(record: RunRecord) -> list[str]:
    found = [record.model.name, record.extent, record.ran.time]
    if record.prompts and all(p.generated and not differs(p) for p in record.prompts):
        found.append("the same without the writes")
    return found


def run_in_words(record: RunRecord) -> str:
    """What tells a run from another: its model, what it wrote, and the edits in force."""
    edits = f"edits {', '.join(record.model.edits)}" if record.model.edits else ""
    wrote = ", ".join(record.wrote) or "no writes"
    return " · ".join(filter(None, (record.model.in_words, wrote, edits)))


def differs(prompt: PromptResult) -> bool:
    """Whether the text is another without the writes, or nobody knows."""
    return prompt.generated != prompt.generated_clean


def others(record: RunRecord) -> list[str]:
    """What was saved besides what can be drawn, in words."""
    found = []
    for each in record.saved:
        gone = each.kind == "tensor" and each.tensor is None
        drawn = each.drawable is not None or any(p.drawable is not None for p in each.parts)
        if not gone and not drawn:
            shape = f" {tuple(each.shape)}" if each.shape is not None else ""
            found.append(f"{each.name} ({each.kind}{shape})")
    return found


# -- tokens and steps -------------------------------------------------------------------------


def names_of(record: RunRecord) -> list[str]:
    """What each prompt goes by: its own name, or its number where there are several."""
    several = len(record.prompts) > 1
    return [
        each.name or (f"prompt {k + 1}" if several else "") for k, each in enumerate(record.prompts)
    ]


def strips_of(record: RunRecord) -> list[TokenStrip]:
    """The prompts; of a generation only what its steps do not show already."""
    strips = []
    for each, name in zip(record.prompts, names_of(record), strict=True):
        if not each.generated:
            strips.append(TokenStrip(each.tokens, name, tops(each), clean_tops(each), each.kl))
        elif each is not prompt_with_steps(record):
            strips.append(generated_strip(each, name))
    return strips


def texts_of(record: RunRecord) -> list[TwoTexts]:
    """What was generated with the writes and without, of the prompts where that differs."""
    return [
        two_texts(each.generated, each.generated_clean, name)
        for each, name in zip(record.prompts, names_of(record), strict=True)
        if each.generated_clean and differs(each)
    ]


def strips_of_two(first: RunRecord, second: RunRecord, titles: tuple[str, str]) -> list[TokenStrip]:
    """Two runs of the same prompts: one strip a prompt, with what both predict side by side, the
    first run's first.

    Of other prompts, of generated text, and where only one of the runs went as far as to predict,
    the runs' strips below each other.
    """
    pairs = list(zip(first.prompts, second.prompts, strict=False))
    alike = len(first.prompts) == len(second.prompts) and all(
        one.tokens == other.tokens
        and not (one.generated or other.generated)
        and bool(tops(one)) == bool(tops(other))
        for one, other in pairs
    )
    if alike:
        return [
            TokenStrip(
                one.tokens,
                name,
                tops(one),
                tops(other),
                heads=titles,
            )
            for (one, other), name in zip(pairs, names_of(first), strict=True)
        ]
    strips = []
    for record, head in zip((first, second), titles, strict=True):
        for prompt, own in zip(record.prompts, names_of(record), strict=True):
            name = " ".join(filter(None, (head, own)))
            if prompt.generated:
                strips.append(generated_strip(prompt, name))
            else:
                strips.append(TokenStrip(prompt.tokens, name, tops(prompt)))
    return strips


def generated_strip(prompt: PromptResult, name: str) -> TokenStrip:
    """A prompt with its new tokens, each with what it was chosen from."""
    tokens = (*prompt.tokens, *prompt.generated)
    top = ()
    if len(prompt.steps) >= len(prompt.generated) and prompt.tokens:
        none = ((),) * (len(prompt.tokens) - 1)
        top = (*none, *prompt.steps[: len(prompt.generated)], ())
    return TokenStrip(tokens, name, top, generated=len(prompt.generated))


def tops(prompt: PromptResult) -> tuple:
    """What is predicted after each token, or after the last where that is all that is known."""
    if prompt.top or not prompt.predictions or not prompt.tokens:
        return prompt.top
    last = tuple((each.token, each.p) for each in prompt.predictions)
    return ((),) * (len(prompt.tokens) - 1) + (last,)


def clean_tops(prompt: PromptResult) -> tuple:
    if prompt.top_clean or not prompt.compared or not prompt.tokens:
        return prompt.top_clean
    last = tuple((each.token, each.clean) for each in prompt.predictions if each.clean is not None)
    return ((),) * (len(prompt.tokens) - 1) + (last,)


def prompt_with_steps(record: RunRecord) -> PromptResult | None:
    """The prompt whose steps are shown: the first, where each step's candidates are known."""
    first = record.prompts[0] if record.prompts else None
    return first if first is not None and first.generated and first.steps else None


def steps_in(record: RunRecord, prompt: PromptResult) -> list[Step]:
    """The steps of one prompt, with the names of what was saved at every step."""
    saved = [each.name for each in record.saved if each.stepped]
    return [
        step(token, guesses, saved)
        for token, guesses in zip(prompt.generated, prompt.steps, strict=False)
    ]


def step(token: str, guesses: Sequence[tuple[str, float]], saved: Sequence[str] = ()) -> Step:
    """A chosen token; its probability is known where it is one of the candidates."""
    return Step(token, dict(guesses).get(token), guesses, saved)

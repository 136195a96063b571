"""A generation as it is watched: candidates of every step, text that streams in, a stop button."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from nnsight_magic.engine.tracing.settings_of_generation import Settings
from nnsight_magic.language.run import Outcome
from nnsight_magic.language.tokens import token_texts
from nnsight_magic.magics.cell import Asked
from nnsight_magic.magics.models import title
from nnsight_magic.magics.predict import Guesses
from nnsight_magic.results.as_view import OnScreen
from nnsight_magic.results.parts import step
from nnsight_magic.results.record import TOP
from nnsight_magic.views.display import show_live, show_still
from nnsight_magic.views.live.steps import StepsView
from nnsight_magic.views.live.trace import TraceView


class Stream:
    """Watches one generation from inside transformers' `generate`.

    The view appears with the first step, and shows the first prompt's text.
    """

    def __init__(self, asked: Asked, outcome: Outcome, on_screen: OnScreen) -> None:
        self.asked, self.outcome, self.on_screen = asked, outcome, on_screen
        self.steps: StepsView | None = None
        self.done = False
        self._total = asked.line.generation.get("max_new_tokens", asked.line.new_tokens)
        self._begin = 0  # tokens before the first new one
        self._rows: list[list[Guesses]] = []  # of each prompt, of each step
        self._guesses: list[Guesses] = []  # of each prompt, at the step that runs now

    @staticmethod
    def can_follow(settings: Settings) -> bool:
        """Whether each prompt has one text, which grows by one token a step."""
        return settings.beams == settings.most("num_return_sequences") == 1

    def candidates(self, index: int) -> tuple[Guesses, ...]:
        """For each step of the prompt at `index` what its token was chosen from."""
        return tuple(self._rows[index]) if index < len(self._rows) else ()

    def __enter__(self) -> dict[str, Any]:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        return {
            "logits_processor": LogitsProcessorList([_Candidates(self)]),
            "stopping_criteria": StoppingCriteriaList([_Stop(self)]),
        }

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.done = True
        view = self.on_screen.live
        if self.steps is not None:
            self.steps.finish()
        if kind is not None and view is not None:
            view.facts = [*view.facts[:1], "interrupted" if kind is KeyboardInterrupt else "failed"]
            show_still(view)

    def look(self, width: int, scores: torch.Tensor) -> None:
        """Notes the likeliest tokens of each row, behind so many tokens; `scores` are logits
        `(batch, vocabulary)`."""
        if self.steps is None:
            self._begin = width
            self._show()
        self._shares = scores.float().log_softmax(-1)
        best = self._shares.topk(min(TOP, scores.shape[-1]), dim=-1)
        self._ids = best.indices.tolist()
        self._guesses = [
            self._named(ids, shares)
            for ids, shares in zip(self._ids, best.values.exp().tolist(), strict=True)
        ]

    def chosen(self, width: int, tokens: list[int]) -> bool:
        """Notes each row's new token, the last of so many; whether the user wants it to stop.

        A step may come by again: a line that reads what lies behind has the text written anew.
        """
        if self.done or self.steps is None:
            return False
        at = width - 1 - self._begin
        for row, token in enumerate(tokens):
            if token not in self._ids[row]:  # sampled from further down
                share = float(self._shares[row, token].exp())
                self._guesses[row] += self._named([token], [share])
            if row == len(self._rows):
                self._rows.append([])
            self._rows[row][at : at + 1] = [self._guesses[row]]
        if at < self._total:
            self.steps.put(at, step(self._named(tokens[:1], [0])[0][0], self._guesses[0]))
        return self.steps.stopped

    def _named(self, ids: list[int], shares: list[float]) -> Guesses:
        texts = token_texts(self.asked.model.tokenizer, ids)
        return tuple(zip(texts, shares, strict=True))

    def _show(self) -> None:
        rows = self.outcome.rows
        tokens = list(rows[0].tokens) if rows else []
        name = (rows[0].name or "prompt 1") if len(rows) > 1 else ""
        self.steps = StepsView(tokens, (), name, running=True)
        number = self.asked.number
        view = TraceView(f"run {number}", [title(self.asked.model)], steps=self.steps)
        self.on_screen.live = view
        show_live(view)


class _Candidates(LogitsProcessor):
    """Sees the logits of every step, and leaves them as they are."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __deepcopy__(self, memo: dict) -> _Candidates:
        return self  # PEFT copies what it is given

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._stream.look(input_ids.shape[1], scores)
        return scores


class _Stop(StoppingCriteria):
    """Sees the token that was chosen, and stops where the stop button was pressed."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __deepcopy__(self, memo: dict) -> _Stop:
        return self

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        stop = self._stream.chosen(input_ids.shape[1], input_ids[:, -1].tolist())
        return torch.full((len(input_ids),), stop, dtype=torch.bool, device=input_ids.device)

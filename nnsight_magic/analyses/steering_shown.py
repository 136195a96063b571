"""What a steered model wrote, and its forms: texts by strength, with their loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsight_magic.analyses.directions import Direction
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.analyses.shows_itself import ShowsItself
from nnsight_magic.views.data.written import Text, Written

if TYPE_CHECKING:
    from nnsight_magic.views.live.written import WrittenView


@dataclass(frozen=True)
class Said:
    """What was written behind one prompt.

    Attributes:
        text: without the prompt, and without what ends a text.
        loss: the mean of its tokens under the model that is not steered, in nats; NaN of no token.
    """

    text: str
    loss: float

    @property
    def perplexity(self) -> float:
        """`exp(loss)`."""
        return math.exp(self.loss)


@dataclass(frozen=True, repr=False)
class Steering(ShowsItself):
    """What a model wrote with a direction added, by strength; 0 is without.

    Attributes:
        direction: with the mean length of the residual stream over the prompts.
        prompts: what was gone on with.
        said: by strength the texts, in the order of the prompts.
        control: the same with a random direction of equal length; empty where none was asked for.
        relative: strengths are in parts of the residual stream's mean length.
        model: its name.
        notices: what the reader should know.
        writer: writes the texts of further strengths; `None` where the model is gone.
    """

    direction: Direction
    prompts: tuple[str, ...]
    said: dict[float, list[Said]]
    control: dict[float, list[Said]] = field(default_factory=dict)
    relative: bool = False
    model: str = ""
    notices: tuple[str, ...] = ()
    writer: Any = field(default=None, repr=False, compare=False)

    @property
    def strengths(self) -> list[float]:
        """Those that were written, from the least on."""
        return sorted(self.said)

    @property
    def title(self) -> str:
        words = self.direction.words or "a direction"
        blocks = ", ".join(map(str, self.direction.layers[:4]))
        more = ", …" if len(self.direction.layers) > 4 else ""
        where = f"block{'s' * (len(self.direction.layers) > 1)} {blocks}{more}"
        return f"steered: {words}, added behind {where} of {self.model}"

    @property
    def unit(self) -> str:
        """What strengths are in."""
        if self.relative:
            lengths = ", ".join(f"{each:.3g}" for each in self.direction.lengths.values())
            return f"parts of the residual stream's mean length ({lengths})"
        lengths = ", ".join(f"{float(v.norm()):.3g}" for v in self.direction.vectors.values())
        return f"units of the direction (length {lengths})"

    @property
    def loss(self) -> Result:
        """The mean loss of each text under the model that is not steered, `(strength, prompt)`."""
        return self._losses(self.said, "loss")

    @property
    def control_loss(self) -> Result:
        """The same of the texts with a random direction."""
        return self._losses(self.control, "control loss")

    def _losses(self, said: Mapping[float, Sequence[Said]], name: str) -> Result:
        strengths = sorted(said)
        values = np.array([[each.loss for each in said[k]] for k in strengths], dtype=np.float64)
        along = [
            Along("strength", strengths),
            Along("prompt", range(len(self.prompts)), list(self.prompts)),
        ]
        attrs = {"model": self.model, "metric": "loss under the model that is not steered (nats)"}
        return with_axes(values.reshape(len(strengths), len(self.prompts)), along, name, attrs)

    def write(self, strength: float) -> list[Said]:
        """The texts of a further strength; they are kept.

        Raises:
            BadInputError: the model is not there any more.
        """
        from nnsight_magic.errors import BadInputError

        strength = float(strength)
        if strength not in self.said:
            if self.writer is None:
                raise BadInputError("The model is not here any more: run the cell again.")
            own, random = self.writer.write(strength)
            self.said[strength] = own
            if random:
                self.control[strength] = random
        return self.said[strength]

    # -- forms --------------------------------------------------------------------------------

    def written(self) -> Written:
        """The texts as a view has them."""

        def texts(said: Mapping[float, Sequence[Said]]) -> dict[float, list[Text]]:
            return {k: [Text(each.text, each.loss) for each in said[k]] for k in sorted(said)}

        unlike = "under the model that is not steered"
        notes = [
            f"strengths in {self.unit}; loss {unlike}, in nats: far above that of the text "
            "without it, a text is no language any more",
            *self.notices,
        ]
        return Written(self.title, self.prompts, texts(self.said), texts(self.control), notes)

    def view(self) -> WrittenView:
        """The texts beside each other, with a slider for the strength."""
        from nnsight_magic.views.live.written import WrittenView

        def more(strength: float) -> Written:
            self.write(strength)
            return self.written()

        return WrittenView(self.written(), more if self.writer is not None else None)

    def figure(self) -> Any:
        """A matplotlib figure: the mean loss of the texts by strength, beside the control's."""
        from nnsight_magic.views.still.figure import new_figure

        sheet = new_figure((5.2, 3.2))
        axes = sheet.subplots()
        for result, style, name in (
            (self.loss, {"color": "#d3621b", "marker": "o"}, "the direction"),
            (self.control_loss, {"color": "#808080", "linestyle": "--"}, "a random direction"),
        ):
            if result.size:
                axes.plot(
                    result["strength"].values, result.mean("prompt").values, label=name, **style
                )
        axes.set(xlabel="strength", ylabel="loss of the text (nats)")
        axes.set_title(self.title.replace("$", r"\$"), fontsize=9, loc="left", wrap=True)
        axes.legend(fontsize=8, frameon=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        return sheet

    def text(self) -> str:
        """Title, and of each prompt the text of each strength."""
        from nnsight_magic.terminal import width
        from nnsight_magic.views.still.written import text

        return text(self.written(), width())

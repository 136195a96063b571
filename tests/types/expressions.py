"""What an editor says of the expressions that users write most; read by the checker, never run.

Behind each stands what it must be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import reveal_type

    from nnsight_magic import LanguageModel

    m = LanguageModel("demo")
    reveal_type(m)  # LanguageModel
    reveal_type(m.trace("The Eiffel Tower"))  # Tracer
    reveal_type(m.generate("The Eiffel Tower", max_new_tokens=3))  # Generation

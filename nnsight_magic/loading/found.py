"""What a name stands for: where a model's files are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """Where a model's files are.

    Attributes:
        name: as the user wrote it.
        place: a folder, or a name on the hub.
        gguf_file: the file in `place`, for a GGUF model.
        local: whether `place` is a folder.
        offline: whether the hub did not answer, and only what it gave before can be used.
        demo: whether this is the demo model.
        adapter: the folder of a PEFT adapter that goes on top of the model.
    """

    name: str
    place: str
    gguf_file: str | None = None
    local: bool = True
    offline: bool = False
    demo: bool = False
    adapter: str | None = None

"""What a trace has written, for whoever looks at it again when the block is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nnsight_magic.engine.sites.site import Site, Touch
from nnsight_magic.engine.values.changes import Change


@dataclass(frozen=True)
class Written:
    """What was written at one site.

    Attributes:
        site: where.
        changes: what was put there, each at a path of keys in what stands at the site.
        touches: what the block called it, in the order in which it was first asked for.
    """

    site: Site
    changes: tuple[Change, ...]
    touches: tuple[Touch, ...]


def written_in(changes: Mapping[Site, list[Change]], touches: Iterable[Touch]) -> list[Written]:
    """The writes of a trace, with what the block called them."""
    by_site: dict[Site, list[Touch]] = {site: [] for site in changes}
    for touch in touches:
        if touch.wrote and touch.site in by_site:
            by_site[touch.site].append(touch)
    return [Written(site, tuple(changes[site]), tuple(by_site[site])) for site in by_site]

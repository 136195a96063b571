from nnsight_magic.engine.model.travel import _made
from nnsight_magic.engine.places.handle import _part

__all__ = ["_made", "_part"]

from nnsight_magic.engine.model.travel import _made, _part

__all__ = ["_made", "_part"]

from nnsight_magic.engine.values.value import _itself

__all__ = ["_itself"]

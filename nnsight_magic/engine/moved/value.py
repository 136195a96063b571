from nnsight_magic.engine.values.parts import _itself

__all__ = ["_itself"]

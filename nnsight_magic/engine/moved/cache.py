from nnsight_magic.engine.tracing.cache import Cache, Entry

__all__ = ["Cache", "Entry"]

from nnsight_magic.engine.sites.site import Touch

__all__ = ["Touch"]

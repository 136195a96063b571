from nnsight_magic.engine.tracing.step import Step

__all__ = ["Step"]

from nnsight_magic.engine.sites.report import RunReport

__all__ = ["RunReport"]

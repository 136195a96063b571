from nnsight_magic.engine.model.model import Model

__all__ = ["Model"]

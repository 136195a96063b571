from nnsight_magic.engine.model.language_model import LanguageModel

__all__ = ["LanguageModel"]

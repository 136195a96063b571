from nnsight_magic.engine.editing.edits import Edit, Edits, Write

__all__ = ["Edit", "Edits", "Write"]

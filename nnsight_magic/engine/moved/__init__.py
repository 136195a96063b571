"""Modules by the names that they had before the engine had rooms, for what was pickled then."""

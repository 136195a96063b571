from nnsight_magic.engine.running.scan import Scan, Scanned, Shape

__all__ = ["Scan", "Scanned", "Shape"]

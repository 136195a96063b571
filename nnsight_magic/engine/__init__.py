"""The engine, room by room; docs/architecture.md says what is where.

It imports nothing, so that a cell can be checked and completed before torch is there.
"""

# Pickles of before there were rooms name classes by the modules of then: `moved` has those.
__path__.append(f"{__path__[0]}/moved")

"""`python -m benchmarks`: the measurements that the documentation's figures come from."""

import sys

from benchmarks import engine, memory, patching

engine.main()
if len(sys.argv) == 1:
    memory.main()
    patching.main()

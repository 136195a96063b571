"""`python -m benchmarks`: the measurements that the documentation's figures come from."""

from benchmarks.engine import main

main()

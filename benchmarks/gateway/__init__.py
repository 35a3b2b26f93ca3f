"""The parts of `bench_gateway.py`: what stands behind the contenders, the contenders themselves, and the load on them."""

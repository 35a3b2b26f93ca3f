"""The parts of `bench_engine.py`: transformers' `generate` and the floor in a process of their own, and the engine without padding."""

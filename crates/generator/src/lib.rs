//! A network of its own and signed chains from a seed: for demos, benchmarks and tests. Pure.

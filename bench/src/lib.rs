//! Benchmarks with their floor program.

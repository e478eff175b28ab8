//! File access that names the path in each error: atomic replacement, bounded reads, lookups inside a root, record locks.

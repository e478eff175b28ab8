//! Fixtures for tests: CRI client, registry, node.

//! Composition root: adapters for the engine's ports, reload, signals.

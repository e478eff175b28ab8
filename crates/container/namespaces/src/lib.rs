//! Namespaces: create, pin, join.

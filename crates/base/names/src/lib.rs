//! Identifiers parsed once: container and pod ids, digests, image references.

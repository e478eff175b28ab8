//! System calls that rustix does not wrap, as safe functions over std and rustix types. The only crate with `unsafe`.

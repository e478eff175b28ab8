//! Compares our CRI messages, byte by byte, with an independent definition of the same interface.
#![forbid(unsafe_code)]

//! CRI request + image + host facts -> OCI runtime spec, as pure functions.

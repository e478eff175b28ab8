//! System tests: the real daemon with real namespaces, mounts, cgroups and networks. They are in `tests/system/`,
//! one program, a file per subject; this library is empty.
#![forbid(unsafe_code)]

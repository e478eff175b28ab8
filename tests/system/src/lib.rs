//! System tests: a real daemon, real containers. Need root.

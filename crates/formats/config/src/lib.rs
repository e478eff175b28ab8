//! crio.conf: text -> raw tables -> resolved values. No side effects.

//! Pull and load: resolve, verify, fetch, unpack, commit.

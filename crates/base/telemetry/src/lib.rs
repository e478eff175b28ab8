//! Log set-up in CRI-O's text and JSON formats.

//! The per-pod monitor process: stdio, logs, exits, OOM.

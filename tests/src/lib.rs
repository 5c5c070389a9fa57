//! Integration tests of highwater against real servers: one file a topic, under `tests/`.

//! Copies that follow a replica which the real `replicate` writes.

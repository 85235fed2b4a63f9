//! (how the app ended, did the flush finish) → exit code: one table. Pure.

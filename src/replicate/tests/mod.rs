//! Tests of the whole of replication.

mod existing_names;
mod hunt;

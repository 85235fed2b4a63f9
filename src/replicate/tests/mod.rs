//! Tests of the whole of replication.

mod hunt;

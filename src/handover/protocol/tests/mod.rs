//! The protocol: each rule in a short story (`rules`, `standby`), and whole lives by seed (`model`).

mod bucket;
mod machine;
mod model;
mod rules;
mod standby;
mod waiting;
mod world;

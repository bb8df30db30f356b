//! What the API promises: who may call what, and that v1 only grows.

mod compatibility;
mod golden;
mod permissions;
#[path = "../../build/access.rs"]
mod table;

//! The services: what is wanted of each, where it is in its life, and what happens next. Nothing here starts a process or looks at a
//! clock; effects are carried out by the event loop.

pub mod order;
pub mod readiness;
pub mod service;
pub mod state;

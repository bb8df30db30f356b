//! The health gate.
mod checks;
mod http;
mod probe;
mod state;

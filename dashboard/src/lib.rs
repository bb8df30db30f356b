//! One machine at a glance: what is known of it, and the picture of that. `machinectl dashboard` shows it to whoever has a certificate, the agent on
//! the machine's own screen. Where facts come from and what keys do is theirs; nothing here reads or writes anything.

pub mod draw;
pub mod facts;
pub mod figures;
pub mod times;

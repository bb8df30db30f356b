//! machinectl as its users see it: the program itself, against a machine API of this test.

mod calls;
mod clusters;
mod connecting;
mod dashboard;
mod destructive;
mod fake;
mod generating;
mod joining;
mod reading;
mod terminal;
mod trust;
mod upgrading;

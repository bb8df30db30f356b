//! Firmware that enforces Secure Boot, and images that their owner signed: booted, enrolled, measured, upgraded.

mod enrolment;
mod signed;
mod updates;

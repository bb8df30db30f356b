//! The program as users run it. Images are of the profile `bare`, with two tiny programs in place of init and the agent; Debian packages
//! come from the host's mirror, once, and then from the workspace's cache.

mod archive;
mod keys;
mod mirror;
mod packages;
mod refusals;
mod reproducible;
mod secure_boot;
mod support;

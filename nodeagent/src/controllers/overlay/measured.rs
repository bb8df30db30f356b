//! What the overlay costs, beside others that do the same, in namespaces of this host: `make bench T=overlay` runs these and shows a table.

mod carrying;
mod cluster;
mod programming;
mod watched;

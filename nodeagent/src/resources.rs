//! The kinds of objects on the board.

pub mod api_servers;
pub mod audit;
pub mod authorities;
pub mod boot;
pub mod bootstrap;
pub mod cluster;
pub mod disks;
pub mod etcd;
pub mod etcd_repair;
pub mod etcd_snapshots;
pub mod gate;
pub mod installation;
pub mod join;
pub mod kinds;
pub mod machine;
pub mod network;
pub mod overlay;
pub mod security;
pub mod services;
pub mod signing_requests;
pub mod sources;
pub mod state_record;
pub mod time;
pub mod upgrade;
pub mod virtual_ip;

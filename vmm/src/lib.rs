//! The machine: KVM, guest RAM, boot protocols, the vCPU and its threads. What the guest sees of
//! devices is in the crate `devices`.

pub mod boot;
pub mod cli;
pub mod config;
pub mod layout;
pub mod memory;

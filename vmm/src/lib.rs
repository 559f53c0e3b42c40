//! The machine: KVM, guest RAM, boot protocols, the vCPU and its threads. What the guest sees of
//! devices is in the crate `devices`.

pub mod acpi;
pub mod arch;
#[cfg(feature = "bench")]
pub mod bench;
pub mod boot;
pub mod cli;
pub mod config;
pub mod console;
pub mod cpu_timer;
pub mod crash;
pub mod debug;
pub mod error;
pub mod exit;
#[cfg(feature = "explain")]
pub mod explain;
#[cfg(feature = "gdb")]
pub mod gdb;
pub mod interrupt;
pub mod kvm;
pub mod kvm_run;
pub mod kvm_stats;
pub mod layout;
pub mod logger;
pub mod mapped;
pub mod memory;
mod named;
mod number;
pub mod observe;
#[cfg(any(feature = "bench", feature = "explain"))]
pub mod output;
#[cfg(any(feature = "bench", feature = "explain"))]
mod page;
pub mod pin;
pub mod sandbox;
pub mod signals;
pub mod stats;
pub mod stop;
pub mod table;
pub mod terminal;
pub mod trace;
pub mod vcpu;
pub mod vcpu_setup;
pub mod vm;

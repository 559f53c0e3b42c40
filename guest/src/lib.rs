//! The portable part of the guest.
#![no_std]

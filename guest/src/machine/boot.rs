//! Pulls in the entries of the image, which are assembler.

use core::arch::global_asm;

global_asm!(include_str!("boot.s"));

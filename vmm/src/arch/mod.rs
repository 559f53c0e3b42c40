//! What differs from one architecture to another. There is one so far.

pub mod x86_64;

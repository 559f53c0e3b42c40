//! Arguments to a machine.
fn main() {}

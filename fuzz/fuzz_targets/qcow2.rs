//! Fuzzes `fuzz::qcow2`; built without cargo-fuzz, runs it on the files named.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::qcow2(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    fuzz::run_on_arguments(fuzz::qcow2)
}

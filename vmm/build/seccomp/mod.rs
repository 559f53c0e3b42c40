//! Compiles the list of what each thread may ask of the kernel into the Rust source that holds the
//! filters, so that a start neither parses nor compiles. What is in the list is the list's matter,
//! and applying a filter `sandbox`'s.

pub mod filter;
pub mod list;
mod names;

use std::fmt::Write;

use libc::sock_filter;
use syscalls::x86_64::Sysno;

/// The Rust source that holds the filters of `list`; or what is wrong with that.
pub fn source(list: &str) -> Result<String, String> {
    let threads = list::parse(list)?;
    let mut source = String::from("// Generated from resources/seccomp/threads.list.\n");
    for (number, thread) in (0..).zip(&threads) {
        let filter = filter::compile(&thread.rules, number)
            .map_err(|error| format!("[{}]: {error}", thread.name))?;
        let name = thread.name.to_uppercase();
        let _ = write!(source, "pub static {name}: &[sock_filter] = &[");
        for sock_filter { code, jt, jf, k } in filter {
            let instruction = format!("code: {code}, jt: {jt}, jf: {jf}, k: {k}");
            let _ = write!(source, "\n    sock_filter {{ {instruction} }},");
        }
        source.push_str("\n];\n");
    }
    let names: Vec<&str> = threads.iter().map(|thread| &*thread.name).collect();
    let _ = write!(
        source,
        "/// By the data that each filter returns with SECCOMP_RET_TRAP.\n\
         pub static THREADS: &[&str] = &{names:?};\n\
         /// The names of all system calls, each in the line of its number.\n\
         pub static CALLS: &str = {:?};\n",
        calls()
    );
    Ok(source)
}

/// The names of all system calls, each in the line of its number, from 0.
fn calls() -> String {
    let mut calls = String::new();
    let mut line = 0;
    for call in Sysno::iter() {
        while line < call.id() {
            calls.push('\n');
            line += 1;
        }
        calls.push_str(call.name());
    }
    calls
}

//! Compiles the list of what each thread may ask of the kernel into filters, and into the Rust
//! source that holds them, so that a start neither parses nor compiles. What is in the list is the
//! list's matter, and applying a filter `sandbox`'s.

pub mod list;
mod names;

use std::collections::BTreeMap;
use std::fmt::Write;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use syscalls::x86_64::Sysno;

use list::{Rule, Thread, Verdict};

/// What a stage of a filter returns for the calls that are none of its own: no kernel sees it.
const NEXT_STAGE: SeccompAction = SeccompAction::Trace(0xffff);
/// BPF_JMP | BPF_JA.
const JUMP: u16 = 0x05;
/// BPF_RET | BPF_K.
const RETURN: u16 = 0x06;

/// The Rust source that holds the filters of `list`; or what is wrong with that.
pub fn source(list: &str) -> Result<String, String> {
    let threads = list::parse(list)?;
    let mut source = String::from("// Generated from resources/seccomp/threads.list.\n");
    for (number, thread) in (0..).zip(&threads) {
        let program = compile(thread, number)?;
        let name = thread.name.to_uppercase();
        let ends = "\n];\n";
        let _ = write!(source, "pub static {name}: &[sock_filter] = &[");
        for sock_filter { code, jt, jf, k } in program {
            let _ = write!(
                source,
                "\n    sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},"
            );
        }
        source.push_str(ends);
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

/// The filter of `thread`, whose traps carry `number`: what is to come first, what is refused, and
/// all else.
fn compile(thread: &Thread, number: u16) -> Result<BpfProgram, String> {
    let stage = |verdict, matched, unmatched| -> Result<BpfProgram, String> {
        let rules = thread.rules.iter().filter(|rule| rule.verdict == verdict);
        program(rules, matched, unmatched).map_err(|error| format!("[{}]: {error}", thread.name))
    };
    let refused = SeccompAction::Errno(libc::EACCES as u32);
    let mut filter = stage(Verdict::First, SeccompAction::Allow, NEXT_STAGE)?;
    append(&mut filter, stage(Verdict::Refuse, refused, NEXT_STAGE)?);
    let last = stage(Verdict::Allow, SeccompAction::Allow, SeccompAction::Trap)?;
    append(&mut filter, last);

    let trap = u32::from(SeccompAction::Trap);
    for instruction in &mut filter {
        if instruction.code == RETURN && instruction.k == trap {
            instruction.k |= u32::from(number);
        }
    }
    Ok(filter)
}

/// A program for `rules` alone; none where there are none.
fn program<'r>(
    rules: impl Iterator<Item = &'r Rule>,
    matched: SeccompAction,
    unmatched: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        let alternatives = calls.entry(rule.call.id().into()).or_default();
        if rule.conditions.is_empty() {
            continue;
        }
        let conditions = rule.conditions.iter().map(|condition| {
            let operator = match condition.mask {
                u32::MAX => SeccompCmpOp::Eq,
                mask => SeccompCmpOp::MaskedEq(mask.into()),
            };
            let (index, value) = (condition.index, condition.value.into());
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
        });
        alternatives.push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
    }
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    SeccompFilter::new(calls, unmatched, matched, TargetArch::x86_64)?.try_into()
}

/// Has `filter` go on with `stage` where it would return [`NEXT_STAGE`].
fn append(filter: &mut BpfProgram, stage: BpfProgram) {
    let next_stage = u32::from(NEXT_STAGE);
    let len = filter.len();
    for (index, instruction) in filter.iter_mut().enumerate() {
        if instruction.code == RETURN && instruction.k == next_stage {
            instruction.code = JUMP;
            instruction.k = (len - index - 1) as u32;
        }
    }
    filter.extend(stage);
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

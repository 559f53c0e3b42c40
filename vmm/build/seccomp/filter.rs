//! Compiles the rules of a thread into a BPF program that finds a call by bisection. The kernel runs
//! a new filter once for each system call there is, to remember what it always allows: a program
//! that compared with one after the other, as seccompiler's own do, would cost a start a tenth of a
//! millisecond for each thread. What compares arguments is seccompiler's.

use std::collections::BTreeMap;

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_TRAP,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule,
    sock_filter,
};

use super::list::{Condition, Rule, Verdict};

/// AUDIT_ARCH_X86_64.
const ARCHITECTURE: u32 = 0xc000_003e;
/// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// The program for `rules`. What it traps carries the number `thread`.
pub fn compile(rules: &[Rule], thread: u16) -> Result<BpfProgram, BackendError> {
    let trap = SECCOMP_RET_TRAP | u32::from(thread);
    let (first, others): (Vec<&Rule>, Vec<&Rule>) = rules
        .iter()
        .partition(|rule| rule.verdict == Verdict::First);
    let mut program = vec![
        load(ARCHITECTURE_AT),
        branch(BPF_JEQ, ARCHITECTURE, 1, 0),
        returns(SECCOMP_RET_KILL_PROCESS),
    ];
    for (number, rules) in by_number(first) {
        let body = body(&rules)?;
        program.extend([
            load(NUMBER_AT),
            branch(BPF_JEQ, number, 1, 0),
            skip(body.len()),
        ]);
        program.extend(body);
    }
    program.push(load(NUMBER_AT));
    let mut calls = Vec::new();
    for (number, rules) in by_number(others) {
        let body = body(&rules)?;
        let len = u8::try_from(body.len()).map_err(|_| BackendError::FilterTooLarge(body.len()))?;
        let mut call = vec![branch(BPF_JEQ, number, 0, len)];
        call.extend(body);
        call.push(returns(trap));
        calls.push((number, call));
    }
    program.extend(bisect(&calls, trap));
    Ok(program)
}

fn by_number(rules: Vec<&Rule>) -> BTreeMap<u32, Vec<&Rule>> {
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        calls.entry(rule.call.id() as u32).or_default().push(rule);
    }
    calls
}

/// Finds the one of `calls`, in the order of their numbers, that the loaded number may be.
fn bisect(calls: &[(u32, BpfProgram)], trap: u32) -> BpfProgram {
    match calls {
        [] => vec![returns(trap)],
        [(_, call)] => call.clone(),
        _ => {
            let (below, above) = calls.split_at(calls.len() / 2);
            let begin = above.first().map_or(0, |(number, _)| *number);
            let below = bisect(below, trap);
            let mut program = match u8::try_from(below.len()) {
                Ok(len) => vec![branch(BPF_JGE, begin, len, 0)],
                Err(_) => vec![branch(BPF_JGE, begin, 0, 1), skip(below.len())],
            };
            program.extend(below);
            program.extend(bisect(above, trap));
            program
        }
    }
}

/// What decides about a call by its `rules`, and goes on after its end where none of them applies.
fn body(rules: &[&Rule]) -> Result<BpfProgram, BackendError> {
    let mut program = Vec::new();
    for rule in rules {
        if !rule.conditions.is_empty() {
            let conditions = rule.conditions.iter().map(condition);
            program.extend(BpfProgram::from(SeccompRule::new(
                conditions.collect::<Result<_, _>>()?,
            )?));
        }
        program.push(returns(match rule.verdict {
            Verdict::First | Verdict::Allow => SECCOMP_RET_ALLOW,
            Verdict::Refuse => SECCOMP_RET_ERRNO | libc::EACCES as u32,
        }));
    }
    Ok(program)
}

fn condition(condition: &Condition) -> Result<SeccompCondition, BackendError> {
    let operator = match condition.mask {
        u32::MAX => SeccompCmpOp::Eq,
        mask => SeccompCmpOp::MaskedEq(mask.into()),
    };
    let (index, value) = (condition.index, condition.value.into());
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

/// Skips `yes` instructions where the comparison with `value` holds, and `no` where it does not.
fn branch(comparison: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(BPF_JMP | comparison | BPF_K, value, yes, no)
}

fn skip(instructions: usize) -> sock_filter {
    instruction(BPF_JMP | BPF_JA, instructions as u32, 0, 0)
}

fn returns(action: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, action, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

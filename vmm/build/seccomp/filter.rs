//! Compiles the rules of a thread into a BPF program that finds a call by bisection. The kernel runs
//! a new filter once for each system call there is, to remember what it always allows, and compiles
//! it: each start pays for every instruction, so that what is returned is written once, for all.

use std::collections::BTreeMap;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_TRAP, sock_filter,
};

use super::list::{Condition, Rule, Verdict};

/// AUDIT_ARCH_X86_64.
const ARCHITECTURE: u32 = 0xc000_003e;
/// Offsets in `struct seccomp_data`; that of the arguments, of 8 bytes each, is of their low halves.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// The program for `rules`, which traps with the number `thread`; or why there can be none.
pub fn compile(rules: &[Rule], thread: u16) -> Result<Vec<sock_filter>, String> {
    let mut program = Program::default();
    let ends = Ends {
        allow: program.returns(SECCOMP_RET_ALLOW),
        refuse: program.returns(SECCOMP_RET_ERRNO | libc::EACCES as u32),
    };
    let trap = program.returns(SECCOMP_RET_TRAP | u32::from(thread));
    let kill = program.returns(SECCOMP_RET_KILL_PROCESS);
    let (first, others): (Vec<&Rule>, Vec<&Rule>) = rules
        .iter()
        .partition(|rule| rule.verdict == Verdict::First);

    // Where the calls lead to, from which number on.
    let mut spans = vec![(0, trap)];
    for (number, rules) in by_number(others) {
        let place = program.alternatives(&rules, &ends, trap)?;
        spans.pop_if(|(begin, _)| *begin == number);
        spans.extend([(number, place), (number + 1, trap)]);
    }
    spans.dedup_by_key(|(_, place)| *place);
    let found = program.bisect(&spans)?;
    let mut begin = program.load(NUMBER_AT, found);
    for (number, rules) in by_number(first) {
        let place = program.alternatives(&rules, &ends, begin)?;
        let is_it = program.branch(BPF_JEQ, number, place, begin)?;
        begin = program.load(NUMBER_AT, is_it);
    }
    let is_native = program.branch(BPF_JEQ, ARCHITECTURE, begin, kill)?;
    program.load(ARCHITECTURE_AT, is_native);
    Ok(program.finish())
}

fn by_number(rules: Vec<&Rule>) -> BTreeMap<u32, Vec<&Rule>> {
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        calls.entry(rule.call.id() as u32).or_default().push(rule);
    }
    calls
}

/// An instruction: how many are behind it.
type Place = usize;

/// Where a rule that applies leads to.
struct Ends {
    allow: Place,
    refuse: Place,
}

/// A program, from its last instruction to its first: BPF jumps forward only, so that what an
/// instruction leads to is there before it.
#[derive(Default)]
struct Program(Vec<sock_filter>);

impl Program {
    fn finish(mut self) -> Vec<sock_filter> {
        self.0.reverse();
        self.0
    }

    /// What finds the one of `spans`, in their order, that the loaded number is in.
    fn bisect(&mut self, spans: &[(u32, Place)]) -> Result<Place, String> {
        match *spans {
            [(_, place)] => Ok(place),
            [(_, around), (number, place), (end, behind)]
                if around == behind && number + 1 == end =>
            {
                self.branch(BPF_JEQ, number, place, around)
            }
            _ => {
                let (below, above) = spans.split_at(spans.len() / 2);
                let begin = above.first().map_or(0, |(begin, _)| *begin);
                let (above, below) = (self.bisect(above)?, self.bisect(below)?);
                self.branch(BPF_JGE, begin, above, below)
            }
        }
    }

    /// What decides about a call by its `rules`, and leads to `otherwise` where none of them applies.
    fn alternatives(
        &mut self,
        rules: &[&Rule],
        ends: &Ends,
        otherwise: Place,
    ) -> Result<Place, String> {
        let mut begin = otherwise;
        for rule in rules.iter().rev() {
            let mut applies = match rule.verdict {
                Verdict::First | Verdict::Allow => ends.allow,
                Verdict::Refuse => ends.refuse,
            };
            let next = begin;
            for condition in &rule.conditions {
                applies = self.condition(condition, applies, next)?;
            }
            begin = applies;
        }
        Ok(begin)
    }

    fn condition(&mut self, condition: &Condition, yes: Place, no: Place) -> Result<Place, String> {
        let &Condition { index, mask, value } = condition;
        let mut begin = self.branch(BPF_JEQ, value, yes, no)?;
        if mask != u32::MAX {
            begin = self.instruction(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
        }
        Ok(self.load(ARGUMENTS_AT + 8 * u32::from(index), begin))
    }

    /// Loads what is at `offset`, and goes on at `then`.
    fn load(&mut self, offset: u32, then: Place) -> Place {
        let skipped = self.0.len() - 1 - then;
        if skipped > 0 {
            self.instruction(BPF_JMP | BPF_JA, skipped as u32, 0, 0);
        }
        self.instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
    }

    /// Leads to `yes` where the comparison with `value` holds, and to `no` where it does not.
    fn branch(
        &mut self,
        comparison: u32,
        value: u32,
        yes: Place,
        no: Place,
    ) -> Result<Place, String> {
        let skipped = |place: Place| {
            u8::try_from(self.0.len() - 1 - place)
                .map_err(|_| "there are too many calls for a filter".to_owned())
        };
        let (yes, no) = (skipped(yes)?, skipped(no)?);
        Ok(self.instruction(BPF_JMP | comparison | BPF_K, value, yes, no))
    }

    fn returns(&mut self, action: u32) -> Place {
        self.instruction(BPF_RET | BPF_K, action, 0, 0)
    }

    fn instruction(&mut self, code: u32, k: u32, jt: u8, jf: u8) -> Place {
        let code = code as u16;
        self.0.push(sock_filter { code, jt, jf, k });
        self.0.len() - 1
    }
}

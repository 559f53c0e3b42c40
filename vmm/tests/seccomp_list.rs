//! That the list of what threads may ask of the kernel means what it says, and that what is wrong
//! with one fails the build by name.

#![allow(clippy::unwrap_used)]

#[path = "../build/seccomp/mod.rs"]
mod seccomp;

use libc::sock_filter;
use seccomp::filter;
use seccomp::list::{Condition, Rule, Verdict, parse};

/// What is wrong with `list`.
fn error(list: &str) -> String {
    seccomp::source(list).unwrap_err()
}

#[test]
fn a_thread_has_the_calls_of_its_groups_and_its_own() {
    let list = "[disk]\npreadv # reads\n[a: disk]\nread # waits\n[b: disk]\n";
    let threads = parse(list).unwrap();
    let calls = |index: usize| -> Vec<&str> {
        let rules = &threads[index].rules;
        rules.iter().map(|rule| rule.call.name()).collect()
    };
    assert_eq!((&*threads[0].name, calls(0)), ("a", vec!["preadv", "read"]));
    assert_eq!((&*threads[1].name, calls(1)), ("b", vec!["preadv"]));
}

#[test]
fn conditions_and_verdicts_are_read() {
    let list = "[a:]\nfirst ioctl(1 = KVM_RUN) # runs\nmmap(2 & PROT_EXEC = 0) # heap\n\
                refuse openat # looks\n";
    let rules = &parse(list).unwrap()[0].rules;
    let condition = |index, mask, value| vec![Condition { index, mask, value }];
    assert_eq!(rules[0].verdict, Verdict::First);
    assert_eq!(rules[0].conditions, condition(1, u32::MAX, 0xae80));
    assert_eq!(rules[1].verdict, Verdict::Allow);
    assert_eq!(rules[1].conditions, condition(2, 4, 0));
    assert_eq!(rules[2].verdict, Verdict::Refuse);
    assert_eq!(rules[2].conditions, []);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (list, message) in [
        (
            "[a:]\n\nreed # a typo",
            "line 3: there is no system call 'reed'",
        ),
        ("[a:]\nread", "line 2: no reason is given for 'read'"),
        ("[a:]\nread #", "line 2: no reason is given for 'read'"),
        ("[a:]\nread # x\nread # y", "line 3: 'read' is there twice"),
        (
            "[g]\nread # x\n[a: g]\nread # y",
            "line 4: 'read' is there twice",
        ),
        (
            "[a:]\nioctl(1 = KVM_RUN) # x\nioctl(1 = KVM_RUN) # y",
            "line 3: 'ioctl' is there twice",
        ),
        (
            "[a:]\nioctl # x\nioctl(1 = KVM_RUN) # y",
            "line 3: 'ioctl' is there without a condition, too",
        ),
        (
            "[a:]\nrefuse mmap(2 & PROT_EXEC = 0) # x\nmmap(1 = PROT_EXEC) # y",
            "line 3: 'mmap' is both allowed and refused",
        ),
        (
            "[a:]\nioctl(1 = KVM_WALK) # x",
            "line 2: unknown value 'KVM_WALK': vmm/build/seccomp/names.rs has them all",
        ),
        ("[a:]\nioctl(1) # x", "line 2: '1' is no condition"),
        (
            "[a:]\nmmap(2 & PROT_EXEC = PROT_EXEC) # x",
            "line 2: '2 & PROT_EXEC = PROT_EXEC' is no condition",
        ),
        (
            "[a:]\nmmap(6 = PROT_EXEC) # x",
            "line 2: a system call has no argument number 6",
        ),
        (
            "[a:]\nmmap(2 = PROT_EXEC # x",
            "line 2: conditions without ')'",
        ),
        ("[a: g]", "line 1: no group [g] before this"),
        ("[a:]\n[a:]", "line 2: [a] is there twice"),
        ("[a]\n[a:]", "line 2: [a] is there twice"),
        ("[a", "line 1: a header without ']'"),
        ("read # x", "line 1: a call before the first [section]"),
    ] {
        assert_eq!(error(list), message, "{list}");
    }
}

const X86_64: u32 = 0xc000_003e;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

/// What `filter` returns for a call, and after how many instructions.
fn run(filter: &[sock_filter], architecture: u32, call: u32, args: [u32; 6]) -> (u32, usize) {
    let (mut a, mut at, mut steps) = (0, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = filter[at];
        at += 1;
        steps += 1;
        let holds = match code {
            0x06 => return (k, steps), // RET
            0x20 => {
                // LD
                a = match k {
                    0 => call,
                    4 => architecture,
                    _ => args[(k as usize - 16) / 8],
                };
                continue;
            }
            0x54 => {
                // AND
                a &= k;
                continue;
            }
            0x05 => {
                // JA
                at += k as usize;
                continue;
            }
            0x15 => a == k, // JEQ
            0x35 => a >= k, // JGE
            other => unreachable!("{other:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

/// What `rules` say of a call.
fn verdict(rules: &[Rule], call: u32, args: [u32; 6]) -> u32 {
    let holds = |c: &Condition| args[usize::from(c.index)] & c.mask == c.value;
    let applies = |rule: &&Rule| rule.call.id() as u32 == call && rule.conditions.iter().all(holds);
    match rules.iter().find(applies).map(|rule| rule.verdict) {
        Some(Verdict::First | Verdict::Allow) => ALLOW,
        Some(Verdict::Refuse) => ERRNO | libc::EACCES as u32,
        None => TRAP | 3,
    }
}

#[test]
fn the_filters_say_of_every_call_what_the_list_says() {
    let list = include_str!("../../resources/seccomp/threads.list");
    for thread in parse(list).unwrap() {
        let filter = filter::compile(&thread.rules, 3).unwrap();
        // Every value that a condition asks for, and others.
        let conditions = thread.rules.iter().flat_map(|rule| &rule.conditions);
        let mut values: Vec<u32> = conditions.map(|c| c.value).collect();
        values.extend([0, 1, 2, 4, 7, u32::MAX]);
        for call in (0..600).chain([0x4000_0000, 0x4000_0010, u32::MAX]) {
            for index in 0..6 {
                for &value in &values {
                    let mut args = [0x1234; 6];
                    args[index] = value;
                    let expected = verdict(&thread.rules, call, args);
                    let (returned, _) = run(&filter, X86_64, call, args);
                    assert_eq!(returned, expected, "{}: {call} {args:x?}", thread.name);
                }
            }
            let (returned, _) = run(&filter, 0x4000_0003, call, [0; 6]);
            assert_eq!(returned, KILL_PROCESS, "a call of 32-bit code");
        }
    }
}

#[test]
fn neighbours_and_the_first_and_the_last_calls_are_told_apart() {
    for list in [
        "[a:]\n",
        "[a:]\nread # 0\n",
        "[a:]\nread # 0\nwrite # 1\nrefuse open # 2\nclose # 3\n",
        "[a:]\nfirst read(0 = SIGABRT) # 0\nfirst write(2 = F_GETFD) # 1\nwrite(1 = F_GETFD) # 1\n",
        "[a:]\nwrite(1 = F_GETFD, 2 = SIGABRT) # both\nwrite(2 & PROT_EXEC = 0) # or this\n",
    ] {
        let rules = &parse(list).unwrap()[0].rules;
        let filter = filter::compile(rules, 3).unwrap();
        for call in 0..6 {
            for args in 0..6 * 6 * 6 {
                let args = [args % 6 + 1, args / 6 % 6 + 1, args / 36 + 1, 0, 0, 0];
                let (returned, _) = run(&filter, X86_64, call, args);
                assert_eq!(
                    returned,
                    verdict(rules, call, args),
                    "{list}{call} {args:?}"
                );
            }
        }
    }
}

#[test]
fn a_list_that_is_too_long_for_a_filter_is_refused() {
    let calls = syscalls::x86_64::Sysno::iter().map(|call| format!("{call}(0 = SELF) # long\n"));
    let list = format!("[a:]\n{}", calls.collect::<String>());
    assert_eq!(error(&list), "[a]: there are too many calls for a filter");
}

#[test]
fn what_is_frequent_is_found_soon() {
    let list = include_str!("../../resources/seccomp/threads.list");
    let threads = parse(list).unwrap();
    let vcpu = threads.iter().find(|thread| thread.name == "vCPU").unwrap();
    let filter = filter::compile(&vcpu.rules, 0).unwrap();
    let kvm_run = [3, 0xae80, 0, 0, 0, 0];
    let (returned, steps) = run(&filter, X86_64, libc::SYS_ioctl as u32, kvm_run);
    assert!(returned == ALLOW && steps <= 10, "KVM_RUN takes {steps}");
    for call in 0..500 {
        let (_, steps) = run(&filter, X86_64, call, [0; 6]);
        assert!(steps <= 30, "{call} takes {steps}");
    }
    assert!(filter.len() <= 128, "{} instructions", filter.len());
}

#[test]
fn the_source_names_every_system_call_in_the_line_of_its_number() {
    let source = seccomp::source("[a:]\nread # x\n").unwrap();
    let calls = source.split("CALLS: &str = \"").nth(1).unwrap();
    let names: Vec<&str> = calls.split("\\n").collect();
    for (number, name) in [
        (libc::SYS_read, "read"),
        (libc::SYS_ioctl, "ioctl"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_pidfd_open, "pidfd_open"),
        (libc::SYS_landlock_restrict_self, "landlock_restrict_self"),
    ] {
        assert_eq!(names[number as usize], name);
    }
    assert_eq!(names[400], "", "no system call has this number");
}

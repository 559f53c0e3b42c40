//! That the list of what threads may ask of the kernel means what it says, and that what is wrong
//! with one fails the build by name.

#![allow(clippy::unwrap_used)]

#[path = "../build/seccomp/mod.rs"]
mod seccomp;

use seccomp::list::{Condition, Verdict, parse};

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

#[test]
fn the_call_that_is_first_is_decided_before_the_others_are_looked_at() {
    let others = "read # x\nwrite # x\nclose # x\nppoll # x\n";
    let first = |others: &str| {
        let list = format!("[a:]\nfirst ioctl(1 = KVM_RUN) # x\n{others}");
        let source = seccomp::source(&list).unwrap();
        let allow = source.find("code: 6, jt: 0, jf: 0, k: 2147418112").unwrap();
        source[..allow].lines().count()
    };
    assert_eq!(first(others), first(""));
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

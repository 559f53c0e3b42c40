use super::super::compare::{Verdict, compare};
use super::super::sample;
use super::*;

const HOST: &str = r#"{"host":{"description":"a CPU, Linux 6.1","emulated":true}}"#;

fn round(machine: &str, disk: &str, iops: u32, requests: u32, exits: u32) -> String {
    format!(
        r#"{{"run":{{"machine":"{machine}","disk":"{disk}","iops":{iops},"latency_us":850,
        "requests":{requests},"exits":{},"exits_to_user":{exits},"scattered_mib_per_s":240}}}}"#,
        2 * exits
    )
}

fn read_lines(lines: &[String]) -> Result<Linux, FileError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("linux.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    Source::File(path).read()
}

fn two_rounds() -> Linux {
    let (trap, mapped) = ("registers=trap notify=trap", "registers=mapped notify=trap");
    read_lines(&[
        HOST.into(),
        round("vmm", trap, 1_000, 2_000, 6_020),
        round("vmm", mapped, 1_600, 3_200, 3_200),
        round("vmm", trap, 500, 1_000, 3_010),
        round("vmm", mapped, 900, 1_800, 1_800),
        round("QEMU 7.2 microvm", "", 700, 1_400, 2_800),
    ])
    .unwrap()
}

#[test]
fn rounds_are_put_together_disk_by_disk_in_the_order_of_the_first() {
    let linux = two_rounds();
    let names: Vec<String> = linux.disks.iter().map(LinuxDisk::name).collect();
    assert_eq!(
        names,
        [
            "registers=trap notify=trap",
            "registers=mapped notify=trap",
            "QEMU 7.2 microvm"
        ]
    );
    let trap = &linux.disks[0];
    assert_eq!(trap.iops.samples, [1_000.0, 500.0]);
    assert_eq!(trap.latency.samples, [850_000.0, 850_000.0]);
    assert_eq!(trap.scattered.samples, [240.0, 240.0]);
    assert!(linux.host.unwrap().emulated && linux.missing.is_empty());
}

#[test]
fn a_round_that_ended_before_all_disks_were_measured_is_left_out() {
    let linux = read_lines(&[
        round("vmm", "registers=trap", 10, 1, 1),
        round("vmm", "registers=mapped", 20, 1, 1),
        round("vmm", "registers=trap", 30, 1, 1),
        round("QEMU", "", 40, 1, 1),
    ])
    .unwrap();
    let samples = |disk: &LinuxDisk| disk.iops.samples.clone();
    let all: Vec<Vec<f64>> = linux.disks.iter().map(samples).collect();
    assert_eq!(all, [[10.0], [20.0], [40.0]]);
    let gain = linux.by_trap(&linux.disks[1], |disk| &disk.iops).unwrap();
    assert_eq!(gain.samples, [2.0]);
}

#[test]
fn exits_are_those_of_one_request_of_all_rounds() {
    let linux = two_rounds();
    let trap = &linux.disks[0];
    assert_eq!((trap.exits_to_user, trap.exits), (3.01, 6.02));
    let none = read_lines(&[round("vmm", "", 0, 0, 0)]).unwrap();
    assert_eq!(none.disks[0].exits, 0.0);
}

#[test]
fn mapped_registers_are_compared_with_trap_round_by_round() {
    let linux = two_rounds();
    let trap_of = |index: usize| linux.trap_of(&linux.disks[index]);
    assert_eq!(trap_of(0), None);
    assert_eq!(trap_of(1), Some(&linux.disks[0]));
    assert_eq!(trap_of(2), None);
    let targets = targets(&linux);
    assert_eq!(targets.len(), 1);
    let middle = f64::midpoint(1_600.0 / 1_000.0, 900.0 / 500.0);
    assert!(
        (targets[0].value - 1.0 / middle).abs() < 1e-9,
        "{targets:?}"
    );
    assert!(targets[0].is_met(), "{targets:?}");
}

#[test]
fn without_trap_beside_it_there_is_no_target() {
    let alone = read_lines(&[round("vmm", "registers=mapped notify=trap", 1, 1, 1)]).unwrap();
    assert_eq!(targets(&alone), []);
}

#[test]
fn what_is_missing_is_kept_with_its_reason() {
    let reason = r#"{"missing":"There is no lab: needs root."}"#;
    let linux = read_lines(&[reason.into()]).unwrap();
    assert_eq!(linux.missing, ["There is no lab: needs root."]);
    assert_eq!((linux.host, linux.disks), (None, vec![]));
    let unmeasured = Source::Unmeasured.read().unwrap();
    assert_eq!(unmeasured.missing.len(), 1);
}

#[test]
fn a_file_of_something_else_is_refused_with_the_place() {
    for (line, part) in [
        ("registers=trap: 900 IOPS", "line 2 column"),
        (r#"{"run":{"machine":"vmm"}}"#, "missing field `disk`"),
        (r#"{"walk":{}}"#, "unknown variant `walk`"),
        ("{\"missing\":\"cut", "line 2 column"),
    ] {
        let error = read_lines(&[HOST.into(), line.into()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("linux.jsonl holds no figures of a Linux guest: "),
            "{error}"
        );
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
    let missing = Source::File("/nonexistent".into()).read().unwrap_err();
    assert!(missing.to_string().starts_with("cannot read /nonexistent"));
}

#[test]
fn two_reports_are_compared_disk_by_disk() {
    let before = sample::report();
    let mut after = before.clone();
    let linux = after.linux.as_mut().unwrap();
    linux.disks[1].iops = sample::series(2_000.0);
    let compared = compare(&before, &after);
    let verdict = |name: &str, metric: &str| {
        let mut all = compared.differences.iter();
        let found = all.find(|d| d.section == "linux" && d.name == name && d.metric == metric);
        found.map(|difference| difference.verdict)
    };
    let mapped = "vmm registers=mapped notify=trap";
    assert_eq!(verdict(mapped, "iops"), Some(Verdict::Higher));
    assert_eq!(verdict(mapped, "iops by trap"), Some(Verdict::Higher));
    assert_eq!(verdict("QEMU 7.2.22 microvm", "iops"), Some(Verdict::Same));

    after.linux = None;
    let alone = compare(&before, &after).only_a;
    assert!(
        alone.contains(&format!("linux: {mapped}: iops")),
        "{alone:?}"
    );
}

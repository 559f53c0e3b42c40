use super::super::report::Handled;
use super::super::sample;
use super::*;

#[test]
fn no_line_is_wider_than_100_columns() {
    let text = text(&sample::report());
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
}

#[test]
fn everything_is_there() {
    let text = text(&sample::report());
    for part in [
        // What is above the floor, in the headline and in the table.
        "takes 7.48 us, +2.5 % against the floor's 7.30 us",
        "Machine: CPU Imaginary <CPU> & \"Friends\" @ 3.00GHz; KVM module kvm_amd, nested.",
        "\n  mmio write                  7.48 us  7.41 us  7.55 us  7.48 us ±0.3 %  7.30 us    180 ns  +2.5 %\n",
        "hypercall: the guest's console said",
        "! mmio write: this VMM counts 1.000 exits for one operation, KVM counts 1.250",
        "\n  mmio write !                user space",
        "notify=trap, depth 64: the disk is too small",
        "io_uring: the kernel refuses io_uring",
        "A stock Linux guest on an emulated CPU, 4 KiB random reads one at a time: 1,549 a second with",
        "registers=mapped notify=trap, 1.55 times that of registers=trap, 2.50 times that of QEMU 7.2.22\nmicrovm.",
        "\n  registers=mapped notify=trap  1,549    1.55    2.50   645 us   1.00  2.50\n",
        "\n  QEMU 7.2.22 microvm             155       -       -\n",
        "Measured on an imaginary <CPU>, Linux 6.1.",
        "the ratios alone mean something",
        "Other <VMMs>: none is installed.",
        "\n  vmm              2.10 ms",
        "\n  cost of an exit to user space against the floor     1.019     1.030      met\n",
        "3.81 MiB  3.00 MiB  NOT met\n",
        "Targets met: 1 of 2.",
        "\nWarnings\n  Only one CPU",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(text.matches("refuses io_uring").count(), 1);
}

#[test]
fn columns_are_aligned() {
    let table = Table {
        title: "T".into(),
        head: vec!["a".into(), "figure".into()],
        rows: vec![
            vec!["longer ±".into(), "1".into()],
            vec!["b".into(), "1,000,000".into()],
        ],
        notes: vec!["N.".into()],
    };
    assert_eq!(
        draw(&table),
        "T\n  a            figure\n  longer ±          1\n  b         1,000,000\n  N.\n"
    );
}

#[test]
fn a_report_of_nothing_is_no_text() {
    let report = Report {
        host: Host::default(),
        warnings: vec![],
        exits: None,
        block: None,
        linux: None,
        start: None,
        targets: vec![],
        ..sample::report()
    };
    assert_eq!(text(&report), "");
}

#[test]
fn why_no_linux_guest_was_measured_is_told_in_the_place_of_its_tables() {
    let mut report = sample::report();
    report.linux.as_mut().unwrap().disks.clear();
    let text = text(&report);
    let part = "\n\nLinux guest\n  Other <VMMs>: none is installed.\n\n";
    assert!(text.contains(part), "{text}");
    assert!(!text.contains("A stock Linux guest"), "{text}");
}

#[test]
fn exits_that_kvm_does_not_count_are_told_of_together() {
    let mut report = sample::report();
    for kind in &mut report.exits.as_mut().unwrap().kinds {
        if let (true, Ok(cost)) = (kind.handled == Handled::User, &mut kind.cost) {
            cost.exits.kernel_to_user = Some(0.0);
        }
    }
    let text = text(&report).replace("\n ", "");
    for part in [
        "Handled by the kernel without an exit that it counts: cpuid, ipi to halted cpu and back.",
        "! pio out, mmio write: KVM_RUN returned, and the counters",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(text.matches("! mmio write:").count(), 0);
}

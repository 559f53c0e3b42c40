use tempfile::TempDir;

use super::*;

/// A machine with these files.
fn system(files: &[(&str, &str)]) -> (TempDir, System) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let system = System::new(root.path());
    (root, system)
}

fn fact(host: &Host, name: &str) -> Option<String> {
    let (_, fact) = host.facts.iter().find(|(found, _)| found == name)?;
    Some(fact.clone())
}

const CPUINFO: &str = "\
processor\t: 0
model name\t: A CPU @ 2.00GHz
flags\t\t: fpu tsc constant_tsc nonstop_tsc hypervisor

processor\t: 1
model name\t: A CPU @ 2.00GHz
";

#[test]
fn a_machine_without_any_of_the_files_is_described_and_not_warned_of() {
    let (_root, system) = system(&[]);
    let host = system.describe();
    assert_eq!(fact(&host, "CPU"), None);
    assert_eq!(fact(&host, "KVM module"), None);
    assert_eq!(system.warnings(), [""; 0]);
    assert_eq!(system.stolen(), Duration::ZERO);
}

#[test]
fn facts_are_those_of_the_files() {
    let (_root, system) = system(&[
        ("proc/cpuinfo", CPUINFO),
        ("proc/sys/kernel/osrelease", "6.1.0\n"),
        ("sys/module/kvm/parameters/halt_poll_ns", "200000\n"),
        ("sys/module/kvm_amd/parameters/npt", "1\n"),
        ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n"),
        (
            "sys/devices/system/cpu/vulnerabilities/l1tf",
            "Not affected\n",
        ),
        (
            "sys/devices/system/cpu/vulnerabilities/retbleed",
            "Vulnerable\n",
        ),
        (
            "sys/devices/system/cpu/vulnerabilities/spectre_v2",
            "Mitigation: Retpolines; STIBP: disabled\n",
        ),
    ]);
    let host = system.describe();
    for (name, value) in [
        ("CPU", "A CPU @ 2.00GHz"),
        ("Kernel", "6.1.0"),
        ("KVM module", "kvm_amd"),
        ("KVM parameters", "kvm.halt_poll_ns=200000 kvm_amd.npt=1"),
        ("Nested", "yes: this is a virtual machine (QEMU)"),
        (
            "Mitigations",
            "against spectre_v2 (Retpolines); none against retbleed",
        ),
        ("Turbo", "on"),
        ("TSC", "constant_tsc nonstop_tsc"),
    ] {
        assert_eq!(fact(&host, name).as_deref(), Some(value), "{name}");
    }
    assert!(fact(&host, "CPUs").unwrap().starts_with("2 online"));
    assert!(host.time > 1_700_000_000);
}

#[test]
fn what_makes_figures_doubtful_is_warned_of() {
    let (_root, system) = system(&[
        ("proc/cpuinfo", "processor\t: 0\n"),
        ("proc/loadavg", "1.25 0.80 0.50 1/100 4242\n"),
        ("sys/module/kvm/parameters/x", "1"),
        ("sys/module/kvm_pvm/parameters/x", "1"),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave\n",
        ),
    ]);
    let warnings = system.warnings().join("\n");
    for part in ["one CPU only", "'powersave'", "was 1.25", "(kvm_pvm)"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}

#[test]
fn a_quiet_machine_with_hardware_is_not_warned_of() {
    let cpuinfo = CPUINFO.replace(" hypervisor", "");
    let (_root, system) = system(&[
        ("proc/cpuinfo", &cpuinfo),
        ("proc/loadavg", "0.02 0.01 0.00 1/100 4242\n"),
        ("sys/module/kvm_intel/parameters/ept", "Y"),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "performance\n",
        ),
    ]);
    assert_eq!(system.warnings(), [""; 0]);
}

#[test]
fn stolen_time_is_the_eighth_figure_of_all_cpus() {
    let (_root, system) = system(&[("proc/stat", "cpu  1 2 3 4 5 6 7 88 9 10\ncpu0 0 0 0 0\n")]);
    let ticks = clock_ticks_per_second();
    assert_eq!(system.stolen(), Duration::from_millis(88_000 / ticks));
}

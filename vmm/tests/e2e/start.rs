//! What the start of a machine costs, measured in haste: that there are figures, of the program
//! that was asked for.

use std::path::Path;

use libtest_mimic::Trial;
use vmm::bench::progress::Silent;
use vmm::bench::start::{self, StartOptions};

use crate::harness::{VMM, Vmm};
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("start_time_and_memory_are_measured", measured),
        test("start_program_that_fails_is_quoted", failing),
        test("start_floor_without_a_kernel_says_why", no_kernel),
    ]
}

fn measured() {
    let options = StartOptions { quick: true };
    let start = start::measure_program(Path::new(VMM), &options, &mut Silent).unwrap();
    for series in [&start.vmm, &start.floor, &start.exec] {
        assert_eq!(series.samples.len(), 3);
        assert!(series.samples.iter().all(|ns| *ns > 0.0));
    }
    // A process of any kind has some of it, and no process of this kind has a guest's all.
    for resident in [start.resident, start.floor_resident] {
        assert!((100 << 10..100 << 20).contains(&resident), "{resident}");
    }
}

fn failing() {
    let options = StartOptions { quick: true };
    let error = start::measure_program(Path::new("/bin/false"), &options, &mut Silent);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("it says nothing"), "{error}");
}

fn no_kernel() {
    let ended = Vmm::new(["__floor", "/no/such/file"]).spawn().wait();
    assert_eq!(ended.code(), 1);
    assert!(ended.message().contains("No such file"), "{}", ended.stderr);
}

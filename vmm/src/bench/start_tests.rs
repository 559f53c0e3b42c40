use super::*;

const STATUS: &str = "Name:\tvmm\nVmPeak:\t  170000 kB\nVmHWM:\t    3312 kB\nVmRSS:\t    3312 kB\n";
const SMAPS: &str = "\
7f3a13a00000-7f3a1ba03000 rw-p 00000000 00:00 0
Size:             131084 kB
KernelPageSize:        4 kB
Rss:                  56 kB
Pss:                  56 kB
7f3a1bb69000-7f3a1bb6c000 rw-p 00000000 00:00 0
Size:                 12 kB
Rss:                   8 kB
";

#[test]
fn the_pages_of_the_guests_ram_are_not_the_vmms() {
    let resident = |smaps| resident(STATUS, smaps, 128 << 20);
    assert_eq!(resident(SMAPS), Some((3312 - 56) << 10));
    assert_eq!(resident(""), None, "there is no such mapping");
    assert_eq!(super::resident("", SMAPS, 128 << 20), None);
}

#[test]
fn the_kernel_is_told_from_other_images_as_a_flat_binary() {
    use crate::boot;
    use vm_memory::{GuestAddress, GuestMemoryMmap};
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
    let kernel = boot::load(&boot::Image::Bytes(&KERNEL), &memory, c"").unwrap();
    let state = kernel.tell_of_machine(&memory, None).unwrap();
    assert_eq!(state.mode, boot::CpuMode::Long64);
    assert_eq!(state.rip, spec::board::FLAT_LOAD_ADDR);
}

#[test]
fn targets_are_the_ratio_of_times_and_mebibytes() {
    let targets = targets(&Start {
        vmm: Series::new(vec![2.0]),
        floor: Series::new(vec![1.0]),
        exec: Series::new(vec![0.5]),
        resident: 3 << 20,
        floor_resident: 0,
    });
    let values: Vec<(f64, bool)> = targets.iter().map(|t| (t.value, t.is_met())).collect();
    assert_eq!(values, [(2.0, false), (3.0, true)]);
}

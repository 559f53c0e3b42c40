use kvm_ioctls::Error;

use super::*;

fn at(kind: ExitKind, address: u64) -> ExitSite {
    let address = Some(address);
    ExitSite { kind, address }
}

fn map() -> AddressMap {
    let mut map = AddressMap::default();
    map.add_ports(0x3f8, 8, "COM1");
    map.add_virtio_mmio(0xd000_0000, 0x1000, "disk");
    map
}

/// The statistics of a vCPU with an exit at each of `sites`.
fn stats(sites: impl IntoIterator<Item = ExitSite>) -> VcpuStats {
    let recorder = ExitRecorder::new(Arc::new(map()));
    for site in sites {
        recorder.record(site, Duration::ZERO);
    }
    recorder.snapshot()
}

fn counts(stats: &VcpuStats) -> Vec<(ExitSite, u64)> {
    let rows = stats.rows();
    rows.map(|(site, times)| (site, times.count())).collect()
}

#[test]
fn exits_are_told_apart_by_kind_and_address() {
    let (read, write) = (ExitKind::MmioRead, ExitKind::MmioWrite);
    let sites = [(write, 8), (read, 8), (write, 4), (write, 8)];
    let stats = stats(sites.map(|(kind, address)| at(kind, address)));
    assert_eq!(
        counts(&stats),
        [(at(read, 8), 1), (at(write, 4), 1), (at(write, 8), 2)]
    );
    assert_eq!(stats.exits(), 4);
    assert_eq!(stats.exits_at(|site| site.kind == write), 3);
}

#[test]
fn the_site_of_an_exit_is_its_kind_with_the_address_if_it_has_one() {
    let without = |kind| ExitSite {
        kind,
        address: None,
    };
    for (exit, site) in [
        (VcpuExit::IoOut(0x3f8, &[0]), at(ExitKind::PioOut, 0x3f8)),
        (VcpuExit::IoIn(0x3fd, &mut [0]), at(ExitKind::PioIn, 0x3fd)),
        (VcpuExit::MmioWrite(9, &[0]), at(ExitKind::MmioWrite, 9)),
        (VcpuExit::MmioRead(9, &mut [0]), at(ExitKind::MmioRead, 9)),
        (VcpuExit::Hlt, without(ExitKind::Hlt)),
        (VcpuExit::Intr, without(ExitKind::Signal)),
        (
            VcpuExit::Debug(Default::default()),
            without(ExitKind::Other),
        ),
    ] {
        assert_eq!(ExitSite::of(&Ok(exit)), site);
    }
    for (errno, kind) in [
        (libc::EINTR, ExitKind::Signal),
        (libc::EAGAIN, ExitKind::Wait),
        (libc::EFAULT, ExitKind::Other),
    ] {
        assert_eq!(ExitSite::of(&Err(Error::new(errno))), without(kind));
    }
}

#[test]
fn the_time_is_that_of_handling() {
    let mut recorder = ExitRecorder::new(Arc::default());
    let (site, wait) = (at(ExitKind::PioIn, 1), Duration::from_millis(2));
    recorder.begins(site);
    std::thread::sleep(wait);
    recorder.handled(site);
    let stats = recorder.snapshot();
    let (_, times) = stats.rows().next().unwrap();
    assert!(times.max() >= wait.as_nanos() as u64);
}

#[test]
fn a_guest_that_touches_every_port_gets_rows_for_some_and_one_for_all_others() {
    let ports = || (0..=u16::MAX).map(|port| at(ExitKind::PioOut, port.into()));
    let stats = stats(ports().chain(ports()));
    let elsewhere = ExitSite {
        kind: ExitKind::PioOut,
        address: None,
    };
    // Those of the device came late, and have rows nevertheless.
    let rows = counts(&stats);
    assert_eq!(rows.len(), MAX_UNMAPPED + 8 + 1);
    let others = (0x1_0000 - MAX_UNMAPPED as u64 - 8) * 2;
    assert_eq!(rows[0], (elsewhere, others));
    assert!(rows[1..].iter().all(|&(_, count)| count == 2));
    assert_eq!(rows.last().unwrap().0.address, Some(0x3ff));
    assert_eq!(stats.exits(), 0x2_0000);
}

#[test]
fn a_guest_that_touches_all_of_a_window_has_no_rows_without_end() {
    let window = (0xd000_0000..0xd000_1000).map(|address| at(ExitKind::MmioRead, address));
    let stats = stats(window);
    assert_eq!(counts(&stats).len(), MAX_MAPPED + 1);
    assert_eq!(stats.exits(), 0x1000);
}

#[test]
fn the_exits_of_several_vcpus_add_up() {
    let (a, b) = (at(ExitKind::PioIn, 1), at(ExitKind::PioIn, 2));
    let mut all = stats([a]);
    all.add(&stats([a, b]));
    assert_eq!(counts(&all), [(a, 2), (b, 1)]);
}

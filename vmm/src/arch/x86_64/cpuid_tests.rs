use super::*;

const INTEL: [u32; 3] = [0x756e_6547, 0x6c65_746e, 0x4965_6e69];
const AMD: [u32; 3] = [0x6874_7541, 0x444d_4163, 0x6974_6e65];

fn leaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = registers;
    let has_index = matches!(function, 4 | 7 | 0xb | 0x1f | 0x8000_001d);
    kvm_cpuid_entry2 {
        function,
        index,
        flags: if has_index {
            KVM_CPUID_FLAG_SIGNIFCANT_INDEX
        } else {
            0
        },
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

/// Leaf 0 of a CPU whose last basic leaf is `last`.
fn vendor(last: u32, [ebx, ecx, edx]: [u32; 3]) -> kvm_cpuid_entry2 {
    leaf(0, 0, [last, ebx, ecx, edx])
}

fn cpu(apic_id: u32, count: u32) -> GuestCpu {
    GuestCpu {
        apic_id,
        count,
        tsc_khz: None,
    }
}

/// EAX, EBX, ECX and EDX of a leaf that must be there, once.
#[track_caller]
fn registers(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
    let mut found = entries
        .iter()
        .filter(|e| (e.function, e.index) == (function, index));
    let entry = found.next().expect("no such leaf");
    assert!(found.next().is_none(), "more than one");
    [entry.eax, entry.ebx, entry.ecx, entry.edx]
}

#[test]
fn leaf_1_tells_the_apic_id_and_the_number_of_cpus_and_keeps_the_rest() {
    // As asked on the host's CPU 7 of 32.
    let supported = [leaf(1, 0, [0xc06f2, 0x0720_0800, 0x2000, 0x1f8b_fbff])];
    for (cpu, ebx, edx) in [
        (cpu(0, 1), 0x0001_0800, 0x0f8b_fbff),
        (cpu(0, 4), 0x0004_0800, 0x1f8b_fbff),
        (cpu(3, 4), 0x0304_0800, 0x1f8b_fbff),
        (cpu(254, 255), 0xfeff_0800, 0x1f8b_fbff),
    ] {
        let entries = describe(&supported, cpu);
        assert_eq!(
            registers(&entries, 1, 0),
            [0xc06f2, ebx, 0x8000_2000, edx],
            "{cpu:?}"
        );
    }
}

#[test]
fn the_topology_is_one_package_of_cores_with_one_thread_each() {
    // Newer KVMs list a single subleaf, older ones the host's.
    let newer = vec![vendor(0x1f, INTEL), leaf(0xb, 0, [0, 0, 0, 7])];
    let older = vec![
        vendor(0x1f, INTEL),
        leaf(0xb, 0, [1, 2, 0x100, 7]),
        leaf(0xb, 1, [5, 32, 0x201, 7]),
        leaf(0xb, 2, [5, 32, 2, 7]),
        leaf(0x1f, 0, [1, 2, 0x100, 7]),
    ];
    for supported in [newer, older] {
        for (id, count, bits) in [(0, 1, 0), (1, 2, 1), (2, 3, 2), (15, 16, 4), (4, 255, 8)] {
            let entries = describe(&supported, cpu(id, count));
            for function in [0xb, 0x1f] {
                assert_eq!(registers(&entries, function, 0), [0, 1, 0x100, id]);
                assert_eq!(registers(&entries, function, 1), [bits, count, 0x201, id]);
                assert_eq!(registers(&entries, function, 2), [0, 0, 2, id]);
            }
        }
    }
}

#[test]
fn the_topology_is_told_by_the_leaves_that_the_cpu_has() {
    let count = |last| {
        let entries = describe(&[vendor(last, INTEL), leaf(0xb, 0, [0; 4])], cpu(0, 2));
        entries.iter().filter(|e| e.function > 0).count()
    };
    assert_eq!(count(0xa), 0);
    assert_eq!(count(0xb), 3);
    assert_eq!(count(0x1e), 3);
    assert_eq!(count(0x1f), 6);
}

#[test]
fn every_subleaf_is_found_by_its_index() {
    let entries = describe(&[vendor(0x1f, INTEL)], cpu(0, 2));
    let topology = entries.iter().filter(|e| e.function > 0);
    assert!(topology.clone().count() > 0);
    for entry in topology {
        assert_eq!(entry.flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    }
}

#[test]
fn the_third_level_of_cache_is_shared_by_all_and_the_others_by_none() {
    let supported = [
        vendor(4, INTEL),
        leaf(4, 0, [0xfc1f_c121, 1, 2, 3]),
        leaf(4, 2, [0xfc1f_c143, 1, 2, 3]),
        leaf(4, 3, [0xfc1f_c163, 1, 2, 3]),
        leaf(4, 4, [0; 4]),
        leaf(0x8000_001d, 2, [0x1f_c143, 1, 2, 3]),
        leaf(0x8000_001d, 3, [0x1f_c163, 1, 2, 3]),
        leaf(0x8000_001d, 4, [0; 4]),
    ];
    for (count, ids) in [(1, 0), (2, 1), (3, 3), (16, 15)] {
        let entries = describe(&supported, cpu(0, count));
        let eax = |function, index| registers(&entries, function, index)[0];
        let cores = ids << 26;
        assert_eq!(eax(4, 0), 0x121 | cores);
        assert_eq!(eax(4, 2), 0x143 | cores);
        assert_eq!(eax(4, 3), 0x163 | cores | ids << 14);
        assert_eq!(eax(4, 4), 0, "the end of the list");
        assert_eq!(eax(0x8000_001d, 2), 0x143);
        assert_eq!(eax(0x8000_001d, 3), 0x163 | ids << 14);
        assert_eq!(eax(0x8000_001d, 4), 0, "the end of the list");
        assert_eq!(registers(&entries, 4, 3)[1..], [1, 2, 3]);
    }
}

#[test]
fn amds_leaves_tell_the_same_and_only_on_amds_cpus() {
    let leaves = [
        leaf(0x8000_0001, 0, [0, 0, 0x101, 0]),
        leaf(0x8000_0008, 0, [0x3930, 0x1000, 0x1_501f, 0]),
        leaf(0x8000_001e, 0, [7, 0x103, 0x101, 0]),
    ];
    let supported = [&[vendor(0xd, AMD)], &leaves[..]].concat();
    for (cpu, cmp_legacy, size) in [
        (cpu(0, 1), 0, 0),
        (cpu(2, 4), 2, 0x2003),
        (cpu(5, 6), 2, 0x3005),
        (cpu(254, 255), 2, 0x80fe),
    ] {
        let entries = describe(&supported, cpu);
        let id = cpu.apic_id;
        assert_eq!(
            registers(&entries, 0x8000_0001, 0),
            [0, 0, 0x101 | cmp_legacy, 0]
        );
        assert_eq!(
            registers(&entries, 0x8000_0008, 0),
            [0x3930, 0x1000, 0x1_0000 | size, 0]
        );
        assert_eq!(registers(&entries, 0x8000_001e, 0), [id, id, 0, 0]);
    }

    let supported = [&[vendor(0xd, INTEL)], &leaves[..2]].concat();
    let entries = describe(&supported, cpu(2, 4));
    assert_eq!(registers(&entries, 0x8000_0001, 0), [0, 0, 0x101, 0]);
    assert_eq!(registers(&entries, 0x8000_0008, 0)[2], 0x1_501f);
}

#[test]
fn the_frequency_of_the_tsc_is_told_where_it_is_known() {
    let supported = [
        vendor(0x15, INTEL),
        leaf(0x15, 0, [0; 4]),
        leaf(0x4000_0000, 0, [0x4000_0001, 1, 2, 3]),
        leaf(0x4000_0001, 0, [0x0100_7efb, 0, 0, 0]),
    ];
    let known = GuestCpu {
        tsc_khz: Some(2_300_000),
        ..cpu(0, 1)
    };
    let entries = describe(&supported, known);
    let [denominator, numerator, hz, _] = registers(&entries, 0x15, 0).map(u64::from);
    assert_eq!(hz * numerator / denominator, 2_300_000_000);
    assert_eq!(
        registers(&entries, 0x4000_0000, 0),
        [0x4000_0010, 1, 2, 3],
        "the last of KVM's leaves"
    );
    assert_eq!(
        registers(&entries, 0x4000_0010, 0),
        [2_300_000, 1_000_000, 0, 0]
    );
    assert_eq!(registers(&entries, 0x4000_0001, 0), [0x0100_7efb, 0, 0, 0]);

    let entries = describe(&supported, cpu(0, 1));
    assert_eq!(registers(&entries, 0x15, 0), [0; 4]);
    assert_eq!(registers(&entries, 0x4000_0000, 0)[0], 0x4000_0001);
    assert!(entries.iter().all(|e| e.function != 0x4000_0010));
}

#[test]
fn no_feature_is_added_but_the_hypervisor_and_the_deadline_timer_of_its_capability() {
    let supported = [
        vendor(7, AMD),
        leaf(1, 0, [0; 4]),
        leaf(7, 0, [0, 1, 2, 3]),
        leaf(0x8000_0001, 0, [0; 4]),
    ];
    let entries = describe(&supported, cpu(0, 1));
    assert_eq!(registers(&entries, 1, 0), [0, 1 << 16, 1 << 31, 0]);
    assert_eq!(registers(&entries, 7, 0), [0, 1, 2, 3]);
    assert_eq!(registers(&entries, 0x8000_0001, 0), [0; 4]);

    let mut supported = supported;
    add_tsc_deadline(&mut supported);
    assert_eq!(registers(&supported, 1, 0), [0, 0, 1 << 24, 0]);
}

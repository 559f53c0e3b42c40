use proptest::prelude::*;
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

use super::*;

const TABLE: u64 = 0x1000;

/// RAM with a border at 0x8000 and a hole from 0x1_0000 to 0x2_0000.
fn memory() -> GuestMemoryMmap {
    let ranges = [(0, 0x8000), (0x8000, 0x8000), (0x2_0000, 0x1000)];
    GuestMemoryMmap::from_ranges(&ranges.map(|(base, len)| (GuestAddress(base), len))).unwrap()
}

fn put(memory: &GuestMemoryMmap, base: u64, descriptors: &[Descriptor]) {
    for (index, descriptor) in (0..).zip(descriptors) {
        let addr = GuestAddress(base + DESC_SIZE * index);
        memory.write_slice(&descriptor.to_bytes(), addr).unwrap();
    }
}

fn buffer(addr: u64, len: u32) -> Descriptor {
    Descriptor {
        addr,
        len,
        ..Default::default()
    }
}

fn with(descriptor: Descriptor, flags: DescFlags, next: u16) -> Descriptor {
    Descriptor {
        flags,
        next,
        ..descriptor
    }
}

fn walk_from(
    memory: &GuestMemoryMmap,
    size: u16,
    head: u16,
) -> Result<Vec<Descriptor>, ChainError> {
    let mut chain = vec![buffer(1, 1)];
    walk(memory, table(memory, size), head, true, &mut chain).map(|()| chain)
}

fn table(memory: &GuestMemoryMmap, size: u16) -> Table<'_> {
    let len = DESC_SIZE as usize * usize::from(size);
    Table::new(memory.get_slice(GuestAddress(TABLE), len).unwrap())
}

#[test]
fn a_chain_is_followed_by_next_whatever_the_order_in_the_table() {
    let memory = memory();
    let [a, b, c] = [
        with(buffer(0x10, 1), DescFlags::NEXT, 2),
        buffer(0x20, 2),
        with(buffer(0x30, 3), DescFlags::NEXT | DescFlags::WRITE, 1),
    ];
    put(&memory, TABLE, &[a, b, c]);
    assert_eq!(walk_from(&memory, 4, 0), Ok(vec![a, c, b]));
    assert_eq!(walk_from(&memory, 4, 1), Ok(vec![b]));
}

#[test]
fn an_indirect_table_takes_the_place_of_the_descriptor_that_refers_to_it() {
    let memory = memory();
    let direct = with(buffer(0x10, 1), DescFlags::NEXT, 1);
    let refer = with(buffer(0x2000, 32), DescFlags::INDIRECT, 0);
    put(&memory, TABLE, &[direct, refer]);
    let [x, y] = [with(buffer(0x20, 2), DescFlags::NEXT, 1), buffer(0x30, 3)];
    put(&memory, 0x2000, &[x, y]);
    assert_eq!(walk_from(&memory, 4, 0), Ok(vec![direct, x, y]));
}

#[test]
fn each_broken_chain_is_refused_for_its_own_reason() {
    use DescFlags as F;
    let at = buffer(0x2000, 32);
    for (size, descriptor, expected) in [
        (4, with(at, F::NEXT, 0), ChainError::TooLong),
        (
            4,
            with(at, F::NEXT, 4),
            ChainError::Index { index: 4, size: 4 },
        ),
        (
            4,
            with(at, F::INDIRECT | F::NEXT, 0),
            ChainError::IndirectWithNext,
        ),
        (1, with(at, F::INDIRECT, 0), ChainError::IndirectLength(32)),
        (
            4,
            with(buffer(0x2000, 0), F::INDIRECT, 0),
            ChainError::IndirectLength(0),
        ),
        (
            4,
            with(buffer(0x2000, 24), F::INDIRECT, 0),
            ChainError::IndirectLength(24),
        ),
        (
            4,
            with(buffer(0xfff0, 32), F::INDIRECT, 0),
            ChainError::OutsideRam(0xfff0),
        ),
        (
            4,
            with(buffer(TABLE, 16), F::INDIRECT, 0),
            ChainError::IndirectNested,
        ),
    ] {
        let memory = memory();
        put(&memory, TABLE, &[descriptor]);
        assert_eq!(walk_from(&memory, size, 0), Err(expected));
    }
    let mut chain = Vec::new();
    let memory = memory();
    put(&memory, TABLE, &[with(at, F::INDIRECT, 0)]);
    let walked = walk(&memory, table(&memory, 4), 0, false, &mut chain);
    assert_eq!(walked, Err(ChainError::IndirectNotNegotiated));
}

#[test]
fn a_run_is_cut_and_copied_across_descriptors() {
    let memory = memory();
    let descriptors = [buffer(0x7ffe, 4), buffer(0x100, 1), buffer(0x200, 3)];
    let run = Run::new(&memory, &descriptors).unwrap();
    assert_eq!(run.write(&memory, b"abcdefgh").unwrap(), 8);
    let (first, rest) = run.split_at(3).unwrap();
    let (middle, last) = rest.split_at(2).unwrap();
    let read = |run: Run<'_>| {
        let mut bytes = [0; 8];
        let len = run.read(&memory, &mut bytes).unwrap();
        bytes[..len].to_vec()
    };
    assert_eq!(read(run), b"abcdefgh");
    assert_eq!(
        (read(first), read(middle), read(last)),
        (b"abc".to_vec(), b"de".to_vec(), b"fgh".to_vec())
    );
    assert_eq!((first.len(), middle.len(), last.len()), (3, 2, 3));
    assert!(run.split_at(9).is_none());
    assert!(run.split_at(8).unwrap().1.is_empty());
}

#[test]
fn a_copy_is_of_what_there_is_and_what_fits() {
    let memory = memory();
    let descriptors = [buffer(0x100, 2), buffer(0x200, 2)];
    let run = Run::new(&memory, &descriptors).unwrap();
    assert_eq!(run.write(&memory, b"abc").unwrap(), 3);
    assert_eq!(run.write(&memory, b"wxyz and more").unwrap(), 4);
    let mut three = [0; 3];
    assert_eq!(run.read(&memory, &mut three).unwrap(), 3);
    assert_eq!(&three, b"wxy");
    assert_eq!(run.read(&memory, &mut [0; 9]).unwrap(), 4);
}

#[test]
fn a_stretch_over_two_regions_gives_two_slices() {
    let memory = memory();
    let descriptors = [buffer(0x7000, 0x2000), buffer(0x100, 16)];
    let run = Run::new(&memory, &descriptors).unwrap();
    let mut slices = Vec::new();
    run.split_at(1)
        .unwrap()
        .1
        .slices(&memory, &mut slices)
        .unwrap();
    let lengths: Vec<_> = slices.iter().map(VolatileSlice::len).collect();
    assert_eq!(lengths, [0xfff, 0x1000, 16]);
}

fn any_descriptor() -> impl Strategy<Value = Descriptor> {
    let addr = prop_oneof![
        4 => 0..0x2_2000_u64,
        2 => prop::sample::select(vec![TABLE, TABLE + 16, 0x2000]),
        1 => any::<u64>(),
    ];
    let len =
        prop_oneof![4 => 0..0x100_u32, 2 => (0..9_u32).prop_map(|n| 16 * n), 1 => any::<u32>()];
    // NEXT is frequent, so that chains get long.
    let flags = prop_oneof![
        4 => Just(DescFlags::NEXT),
        2 => (0..8_u16).prop_map(DescFlags::from_bits_retain),
        1 => any::<u16>().prop_map(DescFlags::from_bits_retain),
    ];
    let next = prop_oneof![8 => 0..10_u16, 1 => any::<u16>()];
    (addr, len, flags, next).prop_map(|(addr, len, flags, next)| Descriptor {
        addr,
        len,
        flags,
        next,
    })
}

proptest! {
    #[test]
    fn no_table_yields_more_descriptors_than_the_queue_has_or_memory_outside_ram(
        table in prop::collection::vec(any_descriptor(), 8),
        indirect in prop::collection::vec(any_descriptor(), 8),
        head in prop_oneof![4 => 0..8_u16, 1 => any::<u16>()],
        split in 0..0x400_u64,
    ) {
        let memory = memory();
        put(&memory, TABLE, &table);
        put(&memory, 0x2000, &indirect);
        let Ok(chain) = walk_from(&memory, 8, head) else {
            return Ok(());
        };
        prop_assert!((1..=8).contains(&chain.len()));
        prop_assert!(!chain.iter().any(|d| d.flags.contains(DescFlags::INDIRECT)));

        let total: u64 = chain.iter().map(|d| u64::from(d.len)).sum();
        let Ok(run) = Run::new(&memory, &chain) else {
            return Ok(());
        };
        prop_assert_eq!(run.len(), total);
        let Some((first, second)) = run.split_at(split) else {
            prop_assert!(split > total);
            return Ok(());
        };
        let mut slices = Vec::new();
        first.slices(&memory, &mut slices).unwrap();
        let cut: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        prop_assert_eq!(cut, split);
        second.slices(&memory, &mut slices).unwrap();
        let all: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        prop_assert_eq!(all, total);
        for slice in &slices {
            let start = slice.ptr_guard().as_ptr() as usize;
            let inside = memory.iter().any(|region| {
                let host = region.get_host_address(vm_memory::MemoryRegionAddress(0)).unwrap();
                let host = host as usize;
                start >= host && start + slice.len() <= host + region.len() as usize
            });
            prop_assert!(inside, "a slice outside RAM");
        }
    }
}

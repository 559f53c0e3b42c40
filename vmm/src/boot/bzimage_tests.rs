use linux_loader::loader::bootparam::boot_params;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::super::load as load_any;
use super::super::test_bzimage::TestBzImage;
use super::*;
use crate::memory;

const MIB: u64 = 1 << 20;

fn load_bytes(bytes: &[u8]) -> (GuestMemoryMmap, Result<Kernel, LoadError>) {
    let memory = memory::allocate(4 * MIB).unwrap();
    let kernel = load_any(&Image::Bytes(bytes), &memory, c"console=ttyS0");
    (memory, kernel)
}

#[track_caller]
fn assert_refused(image: &TestBzImage, reason: &str) {
    assert_bytes_refused(&image.bytes(), reason);
}

#[track_caller]
fn assert_bytes_refused(bytes: &[u8], reason: &str) {
    let refusal = load_bytes(bytes).1.unwrap_err().to_string();
    assert!(refusal.starts_with("not a bootable bzImage: "), "{refusal}");
    assert!(refusal.contains(reason), "{refusal}");
}

fn edited(edit: impl FnOnce(&mut setup_header)) -> TestBzImage {
    let mut image = TestBzImage::default();
    edit(&mut image.header);
    image
}

#[test]
fn a_bzimage_is_loaded_where_it_prefers_and_entered_512_bytes_on_in_64_bit_mode() {
    for setup_sects in [1, 0, 39, 64] {
        let image = edited(|header| {
            header.setup_sects = setup_sects;
            header.pref_address = 2 * MIB;
        });
        let (memory, kernel) = load_bytes(&image.bytes());
        let state = kernel.unwrap().state;
        assert_eq!(
            state,
            BootState {
                mode: CpuMode::Long64,
                rip: 2 * MIB + 0x200,
                rsp: layout::BOOT_STACK_TOP,
                rbx: layout::START_INFO,
                rsi: layout::BOOT_PARAMS,
            }
        );
        let mut kernel = vec![0; 1025];
        memory
            .read_slice(&mut kernel, GuestAddress(2 * MIB))
            .unwrap();
        assert!(kernel[..1024] == image.kernel);
        assert_eq!(kernel[1024], 0);
    }
}

#[test]
fn what_follows_the_kernel_such_as_a_signature_is_left_out() {
    let mut image = TestBzImage::default();
    image.kernel.extend([0xdd; 100]);
    let (memory, kernel) = load_bytes(&image.bytes());
    kernel.unwrap();
    let after: u8 = memory.read_obj(GuestAddress(MIB + 1024)).unwrap();
    assert_eq!(after, 0);
}

#[test]
fn boot_params_have_the_kernels_own_header_with_the_loaders_fields_filled_in() {
    let (memory, kernel) = load_bytes(&TestBzImage::default().bytes());
    kernel.unwrap().tell_of_machine(&memory, None).unwrap();
    let params: boot_params = memory.read_obj(GuestAddress(layout::BOOT_PARAMS)).unwrap();
    let mut expected = TestBzImage::default().header;
    expected.type_of_loader = 0xff;
    expected.cmd_line_ptr = layout::CMDLINE as u32;
    assert_eq!(params.hdr, expected);
    assert_eq!({ params.acpi_rsdp_addr }, layout::ACPI_TABLES);
}

#[test]
fn boot_params_are_zero_from_the_end_of_the_kernels_header_on() {
    // A header that ends with init_size; the code that follows it is not taken for a field.
    let image = edited(|header| {
        header.jump = u16::from_le_bytes([0xeb, 0x62]);
        header.handover_offset = 0xdead_beef;
    });
    let (memory, kernel) = load_bytes(&image.bytes());
    kernel.unwrap().tell_of_machine(&memory, None).unwrap();
    let params: boot_params = memory.read_obj(GuestAddress(layout::BOOT_PARAMS)).unwrap();
    assert_eq!({ params.hdr.init_size }, 0x10_0000);
    assert_eq!({ params.hdr.handover_offset }, 0);
}

#[test]
fn kernels_without_a_64_bit_entry_are_refused_by_reason() {
    assert_refused(&edited(|header| header.version = 0x020b), "version 2.11 of");
    assert_refused(&edited(|header| header.version = 0x0200), "version 2.00 of");
    assert_refused(&edited(|header| header.xloadflags = 0), "XLF_KERNEL_64");
    let short = edited(|header| header.jump = u16::from_le_bytes([0xeb, 0x61]));
    assert_refused(&short, "ends at 0x263, before init_size");
}

#[test]
fn a_bzimage_cut_anywhere_is_refused_as_truncated() {
    let bytes = TestBzImage::default().bytes();
    for len in 0x206..0x26c {
        assert_bytes_refused(&bytes[..len], "ends inside the setup header");
    }
    for len in [0x26c, 1024, 1025, bytes.len() - 1] {
        assert_bytes_refused(&bytes[..len], "ends inside the kernel");
    }
}

#[test]
fn a_kernel_without_code_is_refused() {
    for syssize in [0, 32] {
        let image = edited(|header| header.syssize = syssize);
        assert_refused(&image, "too short to have an entry point");
    }
}

#[test]
fn a_kernel_that_wants_to_be_below_1_mib_is_refused() {
    for address in [0, 0x1_0000, MIB - 1] {
        let image = edited(|header| header.pref_address = address);
        assert_refused(&image, "below 1 MiB");
    }
}

#[test]
fn a_kernel_with_too_little_ram_to_unpack_itself_is_refused() {
    let image = edited(|header| header.init_size = 3 << 20);
    load_bytes(&image.bytes()).1.unwrap();
    let image = edited(|header| header.init_size = (3 << 20) + 1);
    assert_refused(&image, "needs RAM from 0x100000 to 0x400001");
    for address in [4 * MIB, 1 << 32, u64::MAX] {
        let image = edited(|header| header.pref_address = address);
        assert_refused(&image, "RAM ends at 0x400000");
    }
    // Less than the kernel itself is not believed.
    let image = edited(|header| {
        header.init_size = 0;
        header.pref_address = 4 * MIB - 1023;
    });
    assert_refused(&image, "to 0x400001");
}

#[test]
fn a_command_line_that_the_kernel_would_cut_off_is_refused() {
    let image = edited(|header| header.cmdline_size = 13);
    load_bytes(&image.bytes()).1.unwrap();
    let image = edited(|header| header.cmdline_size = 12);
    assert_refused(
        &image,
        "takes a command line of 12 bytes, and this one has 13",
    );
}

#[test]
fn without_both_magic_numbers_it_is_no_bzimage() {
    for image in [
        edited(|header| header.boot_flag = 0xaa00),
        edited(|header| header.header = 0),
    ] {
        let bytes = image.bytes();
        let memory = memory::allocate(4 * MIB).unwrap();
        assert!(load(&Image::Bytes(&bytes), &memory, c"").unwrap().is_none());
    }
}

proptest! {
    #[test]
    fn a_bzimage_with_arbitrary_bytes_in_its_header_never_panics(
        spoilt in prop::collection::vec((0x1f1..0x270_usize, any::<u8>()), 1..12),
        len in 0x1f0..2100_usize,
    ) {
        let mut bytes = TestBzImage::default().bytes();
        for (at, byte) in spoilt {
            bytes[at] = byte;
        }
        bytes.truncate(len);
        let _ = load_bytes(&bytes);
    }

    #[test]
    fn a_kernel_of_any_place_and_size_is_loaded_whole_or_refused(
        pref_address in prop_oneof![any::<u64>(), 0..(5 * MIB)],
        init_size in prop_oneof![any::<u32>(), 0..(5_u32 << 20)],
        syssize in prop_oneof![any::<u32>(), 0..80_u32],
    ) {
        let image = edited(|header| {
            header.pref_address = pref_address;
            header.init_size = init_size;
            header.syssize = syssize;
        });
        let len = u64::from(syssize) * 16;
        let end = pref_address.checked_add(len.max(init_size.into()));
        let fits = (513..=1024).contains(&len)
            && pref_address >= MIB
            && end.is_some_and(|end| end <= 4 * MIB);
        prop_assert_eq!(load_bytes(&image.bytes()).1.is_ok(), fits);
    }
}

//! The check that the build makes of the guest image: that it finds what it is there to find, and
//! that the image that was built passes it.

#[path = "../build/image.rs"]
mod image;

use std::fs;

const ADDRESS: u64 = 0x10_0000;

#[test]
fn instructions_of_sse_mmx_and_x87_are_found_where_they_are() {
    let cases: [(&[u8], &str); 7] = [
        (&[0x0f, 0x28, 0xc1], "Movaps_xmm_xmmm128"),
        (&[0xd9, 0xe8], "Fld1"),
        (&[0x0f, 0x77], "Emms"),
        (&[0x0f, 0x6f, 0xc1], "Movq_mm_mmm64"),
        (&[0xc5, 0xf8, 0x28, 0xc1], "VEX_Vmovaps_xmm_xmmm128"),
        (&[0x0f, 0xae, 0x00], "Fxsave_m512byte"),
        (&[0xf3, 0x0f, 0xb8, 0xc1], "Popcnt_r32_rm32"),
    ];
    for (code, name) in cases {
        let mut code = code.to_vec();
        code.splice(0..0, [0x90, 0xf4]); // nop, hlt
        assert_eq!(
            image::forbidden(&code, 64, ADDRESS),
            Some((ADDRESS + 2, name.to_owned()))
        );
    }
}

#[test]
fn plain_integer_code_is_allowed() {
    // mov rax, rbx; lock cmpxchg [rdi], rcx; rep movsb; rdtsc; cpuid; wrmsr; pause; iretq
    let code = [
        0x48, 0x89, 0xd8, 0xf0, 0x48, 0x0f, 0xb1, 0x0f, 0xf3, 0xa4, 0x0f, 0x31, 0x0f, 0xa2, 0x0f,
        0x30, 0xf3, 0x90, 0x48, 0xcf,
    ];
    assert_eq!(image::forbidden(&code, 64, ADDRESS), None);
}

#[test]
fn of_virtualization_only_hypercalls_are_allowed() {
    for hypercall in [[0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xd9]] {
        assert_eq!(image::forbidden(&hypercall, 64, ADDRESS), None);
    }
    let found = image::forbidden(&[0x0f, 0x01, 0xc2], 64, ADDRESS);
    assert_eq!(found, Some((ADDRESS, "Vmlaunch".to_owned())));
}

#[test]
fn code_is_decoded_for_the_mode_that_it_runs_in() {
    // In 32-bit mode `inc eax` and then `fld1`; in 64-bit mode a prefix of the `fld1`.
    let code = [0x40, 0xd9, 0xe8];
    assert_eq!(image::forbidden(&code, 32, 0), Some((1, "Fld1".to_owned())));
    assert_eq!(image::forbidden(&code, 64, 0), Some((0, "Fld1".to_owned())));
}

#[test]
fn what_cannot_be_decoded_is_not_allowed() {
    let found = image::forbidden(&[0x06], 64, ADDRESS);
    assert_eq!(found, Some((ADDRESS, "INVALID".to_owned())));
}

#[test]
fn a_file_that_is_not_elf_is_refused() {
    for refused in [image::check(b"MZ").err(), image::flat(&[0; 64]).err()] {
        let reason = refused.map(|error| error.to_string());
        assert!(reason.is_some_and(|reason| reason.starts_with("not an ELF file")));
    }
}

#[test]
fn the_image_that_was_built_begins_with_its_64_bit_entry_and_is_small() {
    let image = fs::read(env!("GUEST_BIN")).expect("the image was built");
    assert_eq!(image[..2], [0xfa, 0xfc], "cli; cld");
    // A third of it is the shell, and most of that the file systems that it reads.
    assert!(image.len() < 640 << 10, "{} bytes", image.len());
}

#[test]
fn what_has_a_name_in_the_code_is_listed_and_nothing_else() {
    let file = fs::read(env!("GUEST_ELF")).expect("the image was built");
    let list = image::functions(&file).expect("it has symbols");
    let named = |name: &str| list.lines().any(|line| line.ends_with(&format!(" {name}")));
    assert!(named("interrupt") && named("vectors") && named("_start"));
    assert!(!named("gdt") && !named("CR0_PG"), "no data, no constants");
    for line in list.lines() {
        let address = line
            .split(' ')
            .next()
            .map(|word| u64::from_str_radix(word, 16));
        assert!(
            address.is_some_and(|address| address.is_ok_and(|a| a >= ADDRESS)),
            "{line}"
        );
    }
}

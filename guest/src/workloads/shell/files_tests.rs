//! What can be seen without a file system: text in pieces, names, and a disk that is lent. What a
//! real one holds is in the mirror test.

use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// A disk in memory that counts how often it is read.
struct Image(Vec<u8>, usize);

impl Source for Image {
    fn read(&mut self, start: u64, to: &mut [u8]) -> Result<(), Wrong> {
        self.1 += 1;
        let start = usize::try_from(start).map_err(|_| Wrong::NotOpen)?;
        let from = self.0.get(start..).and_then(|rest| rest.get(..to.len()));
        to.copy_from_slice(from.ok_or(Wrong::NotOpen)?);
        Ok(())
    }
}

/// A disk whose superblock has the magic number and these fields of four bytes.
fn image(fields: &[(usize, u32)]) -> Image {
    let mut bytes = std::vec![0; 1 << 20];
    bytes[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
    for &(offset, value) in fields {
        bytes[1024 + offset..][..4].copy_from_slice(&value.to_le_bytes());
    }
    Image(bytes, 0)
}

fn load(mut image: Image) -> String {
    let result = Loan::with(&mut image, |_| Ok(()));
    std::format!("{}", result.unwrap_err())
}

#[test]
fn a_disk_without_a_file_system_is_told_from_one_that_cannot_be_read() {
    let none = "there is no ext2, ext3 or ext4 file system on the disk";
    assert_eq!(load(Image(std::vec![0; 1 << 20], 0)), none);
    assert_eq!(load(Image(Vec::new(), 0)), "the disk is not open for this");
    let other = load(image(&[(0x20, 1)]));
    assert!(other != none, "{other}");
}

#[test]
fn a_file_system_that_would_take_more_memory_than_there_is_is_refused() {
    let blocks = "a file system with blocks of more than 64 KiB";
    assert_eq!(load(image(&[(0x18, 7)])), blocks);
    let groups = "a file system with more than 16384 block groups";
    for fields in [
        [(0x4, u32::MAX), (0x20, 1)],
        [(0x4, u32::MAX), (0x20, 0)],
        [(0x150, u32::MAX), (0x20, u32::MAX)],
    ] {
        assert_eq!(load(image(&fields)), groups);
    }
}

#[test]
fn a_disk_that_has_been_taken_back_is_not_read_any_more() {
    let mut image = image(&[]);
    let lent: Lent = Rc::new(Cell::new(None));
    let mut reader = Reader(Rc::clone(&lent));
    let source: &mut dyn Source = &mut image;
    // SAFETY: the image outlives the loan, which ends below.
    let pointer = unsafe {
        mem::transmute::<NonNull<dyn Source + '_>, NonNull<dyn Source>>(NonNull::from(source))
    };
    lent.set(Some(pointer));
    let loan = Loan(lent);
    assert!(reader.read(0, &mut [0; 8]).is_ok());
    drop(loan);
    let error = reader.read(0, &mut [0; 8]).unwrap_err();
    assert_eq!(std::format!("{error}"), "the disk has been taken back");
    assert_eq!(image.1, 1);
}

proptest! {
    #[test]
    fn text_does_not_depend_on_where_it_is_cut(
        pieces in prop::collection::vec(
            prop_oneof!["[a-z\n é€😀]{0,8}".prop_map(String::into_bytes), any::<Vec<u8>>()], 0..8),
        at in prop::collection::vec(0_usize..64, 0..8),
    ) {
        let whole = pieces.concat();
        let mut at: Vec<usize> = at.into_iter().map(|at| at.min(whole.len())).collect();
        at.extend([0, whole.len()]);
        at.sort_unstable();
        let (mut text, mut out) = (Text::default(), String::new());
        for cut in at.windows(2) {
            text.write(&mut out, &whole[cut[0]..cut[1]]).unwrap();
        }
        text.finish(&mut out).unwrap();
        let mut expected = String::from_utf8_lossy(&whole).into_owned();
        if !expected.is_empty() && !expected.ends_with('\n') {
            expected.push('\n');
        }
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn a_name_does_no_harm_to_a_terminal(name: Vec<u8>) {
        let shown = std::format!("{}", Shown(&name));
        prop_assert!(!shown.chars().any(char::is_control));
    }
}

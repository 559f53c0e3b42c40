#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Weak};

use super::*;

#[test]
fn the_page_is_one_page_of_its_own() {
    assert_eq!(size_of::<Words>(), PAGE_SIZE);
    assert_eq!(RegisterPage::default().address() as usize % PAGE_SIZE, 0);
}

#[test]
fn a_register_reads_little_endian_in_any_width_at_any_place() {
    let page = RegisterPage::default();
    page.set(Register::Version, 0x8765_4321);
    let read = |offset, width: usize| {
        let mut data = vec![0xee; width];
        page.read(offset, &mut data);
        data
    };
    let at = Register::Version.offset();
    assert_eq!(read(at, 4), [0x21, 0x43, 0x65, 0x87]);
    assert_eq!(read(at + 1, 2), [0x43, 0x65]);
    assert_eq!(read(at - 2, 8), [0, 0, 0x21, 0x43, 0x65, 0x87, 0, 0]);
    assert_eq!(page.get(Register::Version), 0x8765_4321);
}

#[test]
fn the_configuration_space_reads_as_it_was_filled_and_0_past_its_end() {
    let page = RegisterPage::default();
    let shown = page.show_config(|space| {
        assert_eq!(space.len(), PAGE_SIZE - 0x100);
        for (byte, value) in space.iter_mut().zip(1..=3) {
            *byte = value;
        }
        7
    });
    shown.unwrap();
    let mut data = [0xee; 9];
    page.read(CONFIG_OFFSET - 4, &mut data);
    assert_eq!(data, [7, 0, 0, 0, 1, 2, 3, 0, 0]);
    for offset in [PAGE_SIZE as u64 - 1, PAGE_SIZE as u64, u64::MAX - 9] {
        page.read(offset, &mut data);
        assert_eq!(data, [0; 9], "{offset:#x}");
    }
}

#[test]
fn an_acknowledgement_takes_away_what_it_names_and_no_more() {
    let page = RegisterPage::default();
    page.add_pending(InterruptStatus::USED_BUFFER | InterruptStatus::CONFIG_CHANGE);
    page.acknowledge(0xffff_fffd);
    assert_eq!(page.pending(), InterruptStatus::CONFIG_CHANGE);
    page.acknowledge(0);
    assert_eq!(page.pending(), InterruptStatus::CONFIG_CHANGE);
}

/// What was done with the page, and the first word of the configuration space and the generation
/// that it held then.
type Seen = (&'static str, u32, u32);

/// Notes what the page holds whenever it is taken away and given back.
struct Watched {
    page: Weak<RegisterPage>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Watched {
    fn note(&self, what: &'static str) {
        let page = self.page.upgrade().unwrap();
        let config = u32::from_le(page.words.0[CONFIG_WORD].load(Ordering::SeqCst));
        let generation = page.get(Register::ConfigGeneration);
        self.seen.lock().unwrap().push((what, config, generation));
    }
}

impl PageMapping for Watched {
    fn hide(&self) -> io::Result<()> {
        self.note("hide");
        Ok(())
    }

    fn show(&self) -> io::Result<()> {
        self.note("show");
        Ok(())
    }
}

#[test]
fn a_guest_never_sees_a_new_generation_with_an_old_configuration_or_the_reverse() {
    let page = Arc::new(RegisterPage::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    page.mapped_by(Box::new(Watched {
        page: Arc::downgrade(&page),
        seen: Arc::clone(&seen),
    }));
    let show = |value: u8, generation| {
        let read = |space: &mut [u8]| {
            space[0] = value;
            generation
        };
        page.show_config(read).unwrap();
    };
    // What the driver itself changes has the generation that there is, and the page stays.
    show(5, 0);
    assert_eq!(*seen.lock().unwrap(), []);
    show(6, 1);
    assert_eq!(*seen.lock().unwrap(), [("hide", 5, 0), ("show", 6, 1)]);
}

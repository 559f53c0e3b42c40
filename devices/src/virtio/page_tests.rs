#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Weak};

use super::*;

#[test]
fn the_window_is_in_two_pages_of_its_own_and_an_interrupt_is_handled_on_the_second() {
    assert_eq!(size_of::<Words>(), 2 * PAGE_SIZE);
    let page = RegisterPage::default();
    assert_eq!(page.address() as usize % PAGE_SIZE, 0);
    for register in Register::ALL {
        let address = std::ptr::from_ref(page.word(register)).cast::<u8>();
        let place = address as usize - page.address() as usize;
        assert_eq!(place, WINDOW_OFFSET + register.offset() as usize);
        let is_second = register.offset() >= Register::InterruptStatus.offset();
        assert_eq!(place / PAGE_SIZE, usize::from(is_second), "{register:?}");
    }
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
    page.add_pending(InterruptStatus::USED_BUFFER).unwrap();
    page.add_pending(InterruptStatus::CONFIG_CHANGE).unwrap();
    page.acknowledge(0xffff_fffd);
    assert_eq!(page.pending(), InterruptStatus::CONFIG_CHANGE);
    page.acknowledge(0);
    assert_eq!(page.pending(), InterruptStatus::CONFIG_CHANGE);
}

/// What the guest was allowed, and the first word of the configuration space and the generation that
/// the page held then.
type Seen = (Access, u32, u32);

/// Notes what the page holds whenever the guest is allowed something else.
struct Watched {
    page: Weak<RegisterPage>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl PageMapping for Watched {
    fn allow(&mut self, access: Access) -> io::Result<()> {
        let page = self.page.upgrade().unwrap();
        let config = page.words.0[word_at(CONFIG_OFFSET as usize)].load(Ordering::SeqCst);
        let generation = page.get(Register::ConfigGeneration);
        let mut seen = self.seen.lock().unwrap();
        seen.push((access, u32::from_le(config), generation));
        Ok(())
    }
}

#[test]
fn a_guest_never_sees_a_new_generation_with_an_old_configuration_or_the_reverse() {
    let page = Arc::new(RegisterPage::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    page.mapped_by(
        Box::new(Watched {
            page: Arc::downgrade(&page),
            seen: Arc::clone(&seen),
        }),
        false,
    );
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
    assert_eq!(
        *seen.lock().unwrap(),
        [(Access::None, 5, 0), (Access::Read, 6, 1)]
    );
}

#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::Mutex;

use spec::mmio::Register;

use super::*;

/// What it was for, the pending bits, the status and the generation.
type Note = (&'static str, u32, u32, u32);

/// Notes what the driver can read when acknowledgements are applied, and when the edge is raised: the
/// pending bits, the status and the generation.
struct Noted {
    page: Arc<RegisterPage>,
    seen: Arc<Mutex<Vec<Note>>>,
}

impl Noted {
    fn note(&self, what: &'static str) {
        let (pending, status) = (self.page.pending().bits(), self.page.status().bits());
        let generation = self.page.get(Register::ConfigGeneration);
        let mut seen = self.seen.lock().unwrap();
        seen.push((what, pending, status, generation));
    }
}

impl Interrupt for Noted {
    fn signal(&self) -> io::Result<()> {
        self.note("edge");
        Ok(())
    }

    fn settle(&self) {
        self.note("settle");
        // One that waits is for all there was before.
        self.page.acknowledge(u32::MAX);
    }
}

#[test]
fn what_there_is_to_see_comes_before_waiting_acknowledgements_those_before_the_bit_and_that_before_the_edge()
 {
    let page = Arc::<RegisterPage>::default();
    let seen = Arc::default();
    let noted = Noted {
        page: Arc::clone(&page),
        seen: Arc::clone(&seen),
    };
    let state = InterruptState::on_page(page, Arc::new(noted));
    let told = || std::mem::take(&mut *seen.lock().unwrap());
    state.used_buffer().unwrap();
    assert_eq!(told(), [("settle", 0, 0, 0), ("edge", 1, 0, 0)]);
    state.config_changed(|_| 7).unwrap();
    assert_eq!(told(), [("settle", 1, 0, 7), ("edge", 2, 0, 7)]);
    state.needs_reset().unwrap();
    assert_eq!(told(), [("settle", 2, 64, 7), ("edge", 2, 64, 7)]);
}

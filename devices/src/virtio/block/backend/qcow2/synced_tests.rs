use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Has a sync wait when it is about to end.
#[derive(Debug)]
struct Held {
    at_end: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
}

impl Recorder for Held {
    fn record(&self, _event: FileEvent) {
        self.at_end.lock().unwrap().send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
    }
}

#[test]
fn what_is_written_is_not_stable_before_a_sync_that_began_later_has_ended() {
    let (at_end, is_at_end) = channel();
    let (let_go, go_on) = channel();
    let held = Held {
        at_end: Mutex::new(at_end),
        go_on: Mutex::new(go_on),
    };
    let file = SyncedFile::new(tempfile::tempfile().unwrap(), Some(Arc::new(held)));
    assert!(file.referents.are_stable() && file.references.are_stable());
    file.referents.count();
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| file.sync().unwrap());
        is_at_end.recv().unwrap();
        assert!(!file.referents.are_stable());
        file.references.count();
        let_go.send(()).unwrap();
        syncing.join().unwrap();
    });
    assert!(file.referents.are_stable());
    assert!(!file.references.are_stable());
}

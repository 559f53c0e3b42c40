use super::backend::MemoryBackend;
use super::*;

fn block(id: &str, read_only: bool) -> Result<Block, BlockError> {
    let options = BlockOptions {
        read_only,
        id: id.to_owned(),
        notify: NotifyMode::Trap,
    };
    Block::new(Box::new(MemoryBackend::new(vec![0; 4096])), options)
}

#[test]
fn an_id_of_20_bytes_fits_and_one_of_21_is_refused() {
    block(&"x".repeat(20), false).unwrap();
    let long = "x".repeat(21);
    let error = block(&long, false).unwrap_err();
    assert!(matches!(error, BlockError::IdTooLong(id) if id == long));
}

#[test]
fn an_id_that_is_not_printable_ascii_is_refused() {
    for id in ["nul\0", "tab\t", "ünicode", "\n"] {
        let error = block(id, false).unwrap_err();
        assert!(matches!(error, BlockError::IdNotPrintable(refused) if refused == id));
    }
    block("", false).unwrap();
    block("disk 0 (main)", false).unwrap();
}

#[test]
fn only_a_read_only_disk_offers_ro() {
    let offers = |read_only| {
        let block = block("", read_only).unwrap();
        block.features().contains(Features::VIRTIO_BLK_F_RO)
    };
    assert!(offers(true));
    assert!(!offers(false));
}

#[test]
fn the_capacity_is_in_sectors() {
    let mut capacity = [0; 8];
    block("", false).unwrap().read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), 8);
}

#[test]
fn the_thread_is_there_before_the_driver_is_and_begins_with_the_hook() {
    let (told, began) = std::sync::mpsc::channel();
    let name = || std::thread::current().name().map(str::to_owned);
    let options = BlockOptions {
        read_only: false,
        id: "a".to_owned(),
        notify: NotifyMode::IoEventFd {
            kick: vmm_sys_util::eventfd::EventFd::new(0).unwrap(),
            on_start: StartHook::new(move || told.send(name()).unwrap()),
            on_failure: FailureHandler::new(|error| panic!("{error}")),
        },
    };
    let block = Block::new(Box::new(MemoryBackend::new(vec![0; 512])), options).unwrap();
    assert_eq!(began.recv().unwrap(), Some("blk a".to_owned()));
    drop(block);
}

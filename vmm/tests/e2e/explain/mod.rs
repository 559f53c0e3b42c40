//! `vmm explain`: that the story is that of the run, each value agreeing with the others and with what
//! is known without it; and that one that cannot be told says so.

/// The fields of the only event of a kind in an act.
macro_rules! event {
    ($act:expr, $kind:ident { $($field:ident),+ }) => {
        only($act, |event| match event.clone() {
            Event::$kind { $($field),+, .. } => Some(($($field),+)),
            _ => None,
        })
    };
}

mod code;
mod guests;
mod requests;

use std::fs;

use libtest_mimic::Trial;
use spec::board::{VIRTIO_MMIO_BASE, VIRTIO_MMIO_GSI};
use vmm::explain::story::{Act, Descriptor, Direction, Event, Operation, Role, Step, Story};

use crate::harness::{Ended, file, run};
use crate::needs::Needs;

/// The first vector of the built-in guest that is one of a GSI.
const FIRST_VECTOR: u32 = 32;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("explain_tells_each_step_of_a_read_and_a_write", steps),
        test(
            "explain_tells_the_negotiation_register_by_register",
            negotiation,
        ),
        test("explain_names_the_code_that_left_the_guest", code::code),
        test(
            "explain_says_the_same_as_text_as_json_and_as_a_page",
            outputs,
        ),
        test(
            "explain_shows_a_users_disk_and_leaves_it_as_it_was",
            requests::users_disk,
        ),
        test(
            "explain_shows_how_a_read_only_disk_is_not_written",
            requests::read_only,
        ),
        test(
            "explain_shows_an_indirect_table_and_flags_without_event_idx",
            requests::indirect,
        ),
        test("explain_shows_a_driver_that_polls", requests::polling),
        test(
            "explain_says_where_a_throttled_request_waits",
            requests::throttled,
        ),
        crate::harness::test(
            "explain_of_mapped_registers_says_what_leaves_no_exit",
            Needs::Kvm,
            requests::mapped,
        ),
        test(
            "explain_follows_a_guest_that_is_given_as_a_kernel",
            guests::kernel,
        ),
        test(
            "explain_says_how_far_a_story_came_that_is_not_told",
            guests::cut_short,
        ),
        test(
            "explain_ended_by_a_signal_tells_what_there_is",
            guests::signal,
        ),
        crate::harness::test(
            "explain_that_makes_no_sense_is_one_line_and_a_status",
            Needs::Nothing,
            guests::wrong,
        ),
        crate::harness::test(
            "explain_tells_the_first_read_and_write_of_linux",
            Needs::Linux(&[]),
            guests::linux_guest,
        ),
    ]
}

/// A story and the text that tells it.
struct Told {
    story: Story,
    text: String,
}

/// Runs `vmm explain` with these arguments, to an end with this status.
#[track_caller]
fn explain_to(status: i32, args: &[&str]) -> (Told, Ended) {
    let (_dir, json) = file("story.json", b"");
    let json = json.to_str().unwrap();
    let args = [&["explain", "--json", json], args].concat();
    let ended = run(&args);
    assert_eq!(ended.code(), status, "{ended:?}");
    let story = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let text = String::from_utf8(ended.stdout.clone()).unwrap();
    (Told { story, text }, ended)
}

#[track_caller]
fn explain(args: &[&str]) -> Told {
    explain_to(0, args).0
}

/// The names of the events of an act, in their order.
fn kinds(act: &Act) -> Vec<String> {
    let kind = |step: &Step| {
        let event = serde_json::to_value(&step.event).unwrap();
        event["kind"].as_str().unwrap().to_owned()
    };
    act.steps.iter().map(kind).collect()
}

/// What `pick` finds in the only event of an act in which it finds something.
#[track_caller]
fn only<T>(act: &Act, pick: impl Fn(&Event) -> Option<T>) -> T {
    let mut found: Vec<T> = act
        .steps
        .iter()
        .filter_map(|step| pick(&step.event))
        .collect();
    assert_eq!(found.len(), 1, "{:?}", kinds(act));
    found.remove(0)
}

/// Address, length and flags.
fn descriptor(descriptor: &Descriptor) -> (u64, u32, &[String]) {
    (descriptor.addr, descriptor.len, &descriptor.flag_names)
}

#[track_caller]
fn assert_steps(act: &Act, expected: &[&str]) {
    // Whether the guest was halted when its interrupt came is not the same each time.
    let kinds: Vec<String> = kinds(act)
        .into_iter()
        .filter(|kind| kind != "waiting")
        .collect();
    assert_eq!(kinds, expected);
    let mut last = 0;
    for at in act.steps.iter().filter_map(|step| step.at_ns) {
        assert!(at >= last, "time goes back: {act:?}");
        last = at;
    }
}

/// The steps of a request that is drawn out to be shown.
const STEPS: [&str; 19] = [
    "descriptors_written",
    "available_entry",
    "available_index",
    "notification_wanted",
    "notify",
    "exit",
    "taken",
    "walked",
    "parsed",
    "file_io",
    "status_written",
    "used_added",
    "interrupt",
    "resumed",
    "handler_entered",
    "register",
    "register",
    "woken",
    "used_seen",
];

fn steps() {
    let Told { story, .. } = explain(&[]);
    assert_eq!((story.queue.size, story.acts.len()), (8, 2));
    let taken_from = |note: &String| note.contains("taken from the driver's read");
    assert!(story.notes.iter().any(taken_from), "{:?}", story.notes);
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| word.to_string())
            .collect::<Vec<_>>()
    };
    for (number, act) in (0_u16..).zip(&story.acts) {
        assert_steps(act, &STEPS);
        let (operation, data_flags, written, direction) = match number {
            0 => (
                Operation::Read,
                &["NEXT", "WRITE"][..],
                513,
                Direction::Read,
            ),
            _ => (Operation::Write, &["NEXT"][..], 1, Direction::Write),
        };
        assert_eq!((act.operation, act.sector, act.len), (operation, 0, 512));

        // The driver's side.
        let (head, chain) = event!(act, DescriptorsWritten { head, chain });
        let chain: Vec<Descriptor> = chain.into_iter().map(|entry| entry.descriptor).collect();
        let shapes: Vec<_> = chain
            .iter()
            .map(|one| (one.len, one.flag_names.clone()))
            .collect();
        let expected = [
            (16, words(&["NEXT"])),
            (512, words(data_flags)),
            (1, words(&["WRITE"])),
        ];
        assert_eq!(shapes, expected);
        assert_eq!(event!(act, AvailableEntry { slot, head }), (number, head));
        let (before, after) = event!(act, AvailableIndex { before, after });
        assert_eq!((before, after), (number, number + 1));
        let (event, wanted) = event!(
            act,
            NotificationWanted {
                avail_event,
                wanted
            }
        );
        assert_eq!((event, wanted), (Some(number), true));
        let (address, value) = event!(act, Notify { address, value });
        assert_eq!((address, value), (VIRTIO_MMIO_BASE + 0x50, 0));
        let (reason, at) = event!(act, Exit { reason, address });
        assert_eq!((reason.as_str(), at), ("KVM_EXIT_MMIO", address));

        // The device's.
        let (last, seen, heads) = event!(
            act,
            Taken {
                last_avail_idx,
                avail_idx,
                heads
            }
        );
        assert_eq!((last, seen, heads), (before, after, vec![head]));
        assert_eq!(event!(act, Walked { head, chain }), (head, chain.clone()));
        let (sector, len, status) = event!(
            act,
            Parsed {
                sector,
                data_len,
                status_address
            }
        );
        assert_eq!((sector, len, status), (Some(0), 512, Some(chain[2].addr)));
        let (way, offset, moved, failed) = event!(
            act,
            FileIo {
                direction,
                offset,
                moved,
                failed
            }
        );
        assert_eq!((way, offset, moved, failed), (direction, 0, 512, false));
        let (address, value, name) = event!(
            act,
            StatusWritten {
                address,
                value,
                name
            }
        );
        assert_eq!((address, value), (chain[2].addr, 0));
        assert_eq!(name.as_deref(), Some("VIRTIO_BLK_S_OK"));
        let (slot, id, len) = event!(act, UsedAdded { slot, id, len });
        assert_eq!((slot, id, len), (number, head.into(), written));
        let (before, after) = event!(act, UsedAdded { before, after });
        assert_eq!((before, after), (number, number + 1));

        // And back.
        let (gsi, meaning) = event!(act, Interrupt { gsi, meaning });
        assert_eq!((gsi, meaning), (VIRTIO_MMIO_GSI, words(&["USED_BUFFER"])));
        let (vector, _) = event!(act, HandlerEntered { vector, handler });
        assert_eq!(u32::from(vector), FIRST_VECTOR + gsi);
        let (idx, id, len, status) = event!(
            act,
            UsedSeen {
                used_idx,
                id,
                len,
                status
            }
        );
        assert_eq!((idx, id, len, status), (after, head.into(), written, 0));

        // Memory, before and after.
        let shown = |kind: &str| {
            let at = kinds(act).iter().position(|one| one == kind).unwrap();
            &act.steps[at].after
        };
        let data = |kind: &str| {
            let buffers = &shown(kind).buffers;
            let data = buffers
                .iter()
                .find(|buffer| buffer.role == Role::Data)
                .unwrap();
            data.bytes.clone()
        };
        assert_eq!(act.before.available.idx, number);
        assert_eq!(shown("available_entry").available.idx, number);
        assert_eq!(shown("available_index").available.idx, number + 1);
        assert_eq!(shown("status_written").used.idx, number);
        assert_eq!(shown("used_added").used.idx, number + 1);
        if number == 0 {
            assert!(
                data("parsed").iter().all(|byte| *byte == 0),
                "before the read"
            );
        }
        assert!(data("file_io").starts_with(b"This is sector 0 of the built-in disk."));
    }
}

fn negotiation() {
    let Told { story, text } = explain(&[]);
    let value = |register: &str, direction: Direction| {
        let mut of = story.negotiation.iter().filter(|access| {
            access.register.as_deref() == Some(register) && access.direction == direction
        });
        of.next_back().expect(register).value
    };
    let (read, write) = (Direction::Read, Direction::Write);
    let address = |low, high| value(low, write) | value(high, write) << 32;
    let queue = &story.queue;
    assert_eq!(
        address("QueueDescLow", "QueueDescHigh"),
        queue.descriptor_area
    );
    assert_eq!(
        address("QueueDriverLow", "QueueDriverHigh"),
        queue.driver_area
    );
    assert_eq!(
        address("QueueDeviceLow", "QueueDeviceHigh"),
        queue.device_area
    );
    assert_eq!(value("QueueNum", write), 8);
    assert_eq!(value("config.capacity", read), story.device.capacity);
    assert_eq!(value("MagicValue", read), u64::from(spec::mmio::MAGIC));

    let last = story.negotiation.last().unwrap();
    assert_eq!(last.register.as_deref(), Some("Status"));
    assert_eq!(
        last.meaning.join("|"),
        "ACKNOWLEDGE|DRIVER|DRIVER_OK|FEATURES_OK"
    );
    let device = &story.device;
    assert_eq!(device.accepted.bits & !device.offered.bits, 0);
    assert!(device.accepted.names.contains(&"VIRTIO_F_VERSION_1".into()));
    assert!(
        !device
            .accepted
            .names
            .contains(&"VIRTIO_F_INDIRECT_DESC".into())
    );
    let mut at = 0;
    for access in &story.negotiation {
        let name = access
            .register
            .as_deref()
            .expect("a register without a name");
        assert!(text.contains(name), "{name}");
        assert!(
            access.by.symbol.is_some() && access.by.instruction.is_some(),
            "{access:?}"
        );
        assert!(access.at_ns >= Some(at));
        at = access.at_ns.unwrap();
        for meaning in &access.meaning {
            assert!(text.contains(meaning.as_str()), "{meaning}");
        }
    }
}

/// Address and size of a function of the guest.
#[track_caller]
fn outputs() {
    let (_dir, page) = file("story.html", b"");
    let Told { story, text } = explain(&["--html", page.to_str().unwrap()]);
    let page = fs::read_to_string(&page).unwrap();
    for word in [
        "QueueNotify",
        "KVM_EXIT_MMIO",
        "VIRTIO_BLK_T_IN",
        "VIRTIO_BLK_T_OUT",
        "GSI",
    ] {
        assert!(text.contains(word), "the text has no {word}");
        assert!(page.contains(word), "the page has no {word}");
    }
    let chain = event!(&story.acts[0], Walked { chain, head }).0;
    for (addr, ..) in chain.iter().map(descriptor) {
        assert!(text.contains(&format!("{addr:#x}")));
        assert!(page.contains(&format!("{addr:#x}")));
    }
    for outside in [" src=", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
    let ended = run(["explain", "--json"]);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    let again: Story = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(again.queue, story.queue);
    assert_eq!(again.machine, story.machine);
}

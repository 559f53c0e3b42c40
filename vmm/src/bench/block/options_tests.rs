use super::*;

fn plan(change: impl FnOnce(&mut BlockOptions)) -> Result<Plan, OptionsError> {
    let mut options = BlockOptions::default();
    change(&mut options);
    options.plan()
}

#[test]
fn the_default_is_every_notify_mode_at_every_depth_on_a_scratch_file() {
    let plan = plan(|_| ()).unwrap();
    assert_eq!((plan.disk, plan.size), (None, Some(SCRATCH_SIZE)));
    for notify in Notify::ALL {
        for depth in DEPTHS {
            let cell = Cell {
                notify,
                io: Io {
                    rw: Rw::RandRead,
                    block_size: 4096,
                    depth,
                },
                wait: Wait::Irq,
            };
            assert!(plan.cells.contains(&cell), "{cell:?}");
        }
    }
    let modes: Vec<Notify> = plan.cells.iter().map(|cell| cell.notify).collect();
    assert!(modes.is_sorted_by_key(|mode| Notify::ALL.iter().position(|m| m == mode)));
}

#[test]
fn the_guest_waits_as_the_user_says() {
    for wait in Wait::ALL {
        let plan = plan(|options| options.wait = Some(wait)).unwrap();
        assert!(plan.cells.iter().all(|cell| cell.wait == wait));
        assert_eq!(plan.cells.len(), Notify::ALL.len() * DEPTHS.len());
    }
}

#[test]
fn nothing_is_written_where_writing_is_not_asked_for() {
    assert!(!plan(|_| ()).unwrap().rw.writes());
    assert!(Rw::ALL.map(Rw::writes) == [false, true, false, true]);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_option_and_value() {
    type Change = fn(&mut BlockOptions);
    let wrong: [(Change, &str); 14] = [
        (|o| o.block_sizes = vec![4096, 1000], "--bs: .* not 1000"),
        (|o| o.block_sizes = vec![0], "--bs: .* not 0"),
        (|o| o.block_sizes = vec![256], "--bs: .* not 256"),
        (
            |o| o.block_sizes = vec![(1 << 20) + 512],
            "--bs: .* not 1049088",
        ),
        (|o| o.depths = vec![1, 0], "--depth: .* not 0"),
        (|o| o.depths = vec![129], "--depth: .* not 129"),
        (|o| o.size = Some(5000), "--size: 5000 bytes"),
        (|o| o.size = Some(0), "--size: 0 bytes"),
        (
            |o| o.size = Some(2048),
            "--size: 2048 bytes have no room .* 4096",
        ),
        (|o| o.amount = Amount::Seconds(0.0), "--seconds: .* not 0"),
        (
            |o| o.amount = Amount::Seconds(f64::NAN),
            "--seconds: .* not NaN",
        ),
        (
            |o| o.amount = Amount::Seconds(1e9),
            "--seconds: .* not 1000000000",
        ),
        (|o| o.amount = Amount::Requests(0), "--count: .* not 0"),
        (
            |o| o.amount = Amount::Requests(u64::MAX),
            "--count: .* not 1844",
        ),
    ];
    for (change, message) in wrong {
        let error = plan(change).unwrap_err().to_string();
        let mut rest = error.as_str();
        for part in message.split(".*") {
            let at = rest
                .find(part)
                .unwrap_or_else(|| panic!("{error}: {message}"));
            rest = &rest[at + part.len()..];
        }
        assert!(!error.contains('\n'));
    }
}

#[test]
fn the_size_of_a_users_file_is_its_own_where_none_is_given() {
    let disk = |size| {
        plan(|options| {
            options.disk = Some("disk.img".into());
            options.size = size;
        })
    };
    assert_eq!(disk(None).unwrap().size, None);
    assert_eq!(disk(Some(1 << 20)).unwrap().size, Some(1 << 20));
}

#[test]
fn names_are_found_and_nothing_else() {
    assert_eq!(
        Rw::ALL.map(|rw| Rw::from_name(rw.name())),
        Rw::ALL.map(Some)
    );
    assert_eq!(
        Wait::ALL.map(|wait| Wait::from_name(wait.name())),
        Wait::ALL.map(Some)
    );
    assert_eq!((Rw::from_name("rw"), Wait::from_name("")), (None, None));
}

#[test]
fn a_job_is_what_the_cell_says() {
    let io = Io {
        rw: Rw::RandWrite,
        block_size: 8192,
        depth: 3,
    };
    let job = io.job(64, 9);
    assert_eq!((job.write, job.random, job.block_size), (1, 1, 8192));
    assert_eq!((job.depth, job.sectors, job.seed), (3, 64, 9));
    assert_eq!(Io { rw: Rw::Read, ..io }.job(64, 9).write, 0);
    assert_eq!(
        Io {
            rw: Rw::Write,
            ..io
        }
        .job(64, 9)
        .random,
        0
    );
}

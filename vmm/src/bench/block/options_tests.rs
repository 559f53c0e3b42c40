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
                registers: Registers::Trap,
                several: None,
            };
            assert!(plan.cells.contains(&cell), "{cell:?}");
        }
    }
    let one = plan.cells.iter().filter(|cell| cell.several.is_none());
    let modes: Vec<Notify> = one.map(|cell| cell.notify).collect();
    assert!(modes.is_sorted_by_key(|mode| Notify::ALL.iter().position(|m| m == mode)));
}

#[test]
fn the_guest_waits_as_the_user_says() {
    for wait in Wait::ALL {
        let plan = plan(|options| options.wait = Some(wait)).unwrap();
        assert!(plan.cells.iter().all(|cell| cell.wait == wait));
        assert_eq!(plan.cells.len(), Notify::ALL.len() * DEPTHS.len());
        assert!(several(&plan).is_empty());
    }
}

/// The cells in which several CPUs are at it.
fn several(plan: &Plan) -> Vec<Cell> {
    let cells = plan.cells.iter().filter(|cell| cell.several.is_some());
    cells.copied().collect()
}

#[test]
fn by_default_1_2_and_4_queues_are_used_in_every_mode_by_as_many_of_4_cpus() {
    let plan = plan(|_| ()).unwrap();
    for notify in [Notify::Trap, Notify::IoEventFd, Notify::Poll] {
        for registers in Registers::ALL {
            let cells = several(&plan);
            let alike = |cell: &&Cell| (cell.notify, cell.registers) == (notify, registers);
            let found = cells.iter().filter(alike).map(|cell| {
                assert_eq!((cell.io.depth, cell.machine().2), (32, 4));
                cell.job(100, 0).more_queues + 1
            });
            assert_eq!(found.collect::<Vec<_>>(), [1, 2, 4]);
        }
    }
    let machines: Vec<_> = plan.cells.iter().map(|cell| cell.machine()).collect();
    let mut kinds = machines.clone();
    kinds.dedup();
    let groups = kinds.len();
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    kinds.dedup();
    assert_eq!(kinds.len(), groups, "all of a machine are in a row");
}

#[test]
fn who_chooses_what_the_cells_are_has_those_of_several_queues_only_on_demand() {
    let matrix = |options: &mut BlockOptions| options.depths = vec![1];
    assert!(several(&plan(matrix).unwrap()).is_empty());
    let plan = plan(|options| {
        matrix(options);
        options.notify = vec![Notify::Poll];
        options.registers = Some(Registers::Mapped);
        options.queues = vec![3];
    });
    let cells = several(&plan.unwrap());
    let found: Vec<_> = cells
        .iter()
        .map(|cell| (cell.machine(), cell.io.depth))
        .collect();
    assert_eq!(found, [((Notify::Poll, Registers::Mapped, 3), 1)]);
    assert_eq!(cells[0].several, Some(Several { queues: 3, cpus: 3 }));
}

#[test]
fn cpus_alone_are_driven_by_no_more_queues_than_they_are() {
    let queues = |cpus| {
        let plan = plan(|options| (options.depths, options.cpus) = (vec![1], Some(cpus))).unwrap();
        let mut queues: Vec<_> = several(&plan)
            .iter()
            .map(|c| c.several.unwrap().queues)
            .collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    };
    assert_eq!(
        (queues(1), queues(2), queues(8)),
        (vec![1], vec![1, 2], vec![1, 2, 4])
    );
}

#[test]
fn nothing_is_written_where_writing_is_not_asked_for() {
    assert!(!plan(|_| ()).unwrap().rw.writes());
    assert!(Rw::ALL.map(Rw::writes) == [false, true, false, true]);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_option_and_value() {
    type Change = fn(&mut BlockOptions);
    let wrong: [(Change, &str); 8] = [
        (
            |o| (o.queues, o.cpus) = (vec![3], Some(2)),
            "--queues: .* there are 2: .* not 3",
        ),
        (|o| o.block_sizes = vec![4096, 1000], "--bs: .* not 1000"),
        (|o| o.block_sizes = vec![0], "--bs: .* not 0"),
        (|o| o.block_sizes = vec![256], "--bs: .* not 256"),
        (
            |o| o.block_sizes = vec![(1 << 20) + 512],
            "--bs: .* not 1049088",
        ),
        (|o| o.size = Some(5000), "--size: 5000 bytes"),
        (|o| o.size = Some(0), "--size: 0 bytes"),
        (
            |o| o.size = Some(2048),
            "--size: 2048 bytes have no room .* 4096",
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

//! That no interrupt is lost, and none stays pending, of devices with one queue or several behind one
//! interrupt, where acknowledgements wait in a ring (`registers=mapped`) and where each exits
//! (`registers=trap`), and of a device to which its guest acknowledges in memory: all schedules of workers, handlers, exits and resets, step by step. What is one
//! step here is one access to what they share there: `InterruptState::notify`, `AckRing::apply`,
//! KVM's side of the ring, and the handler of Linux (`vm_interrupt`), which looks at one queue after
//! the other. What a worker publishes is seen by the others at any time after, and at the latest
//! where the worker has a full fence.

#![allow(clippy::unwrap_used, clippy::panic)]

mod model;
mod open;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use model::{CONFIG, Design, Life, Scenario, State, USED};

/// Goes through all schedules from `start` on, the shortest first: how many states there are, or the
/// first schedule that ends in a fault.
fn explore<S: Clone + Eq + Hash>(
    start: S,
    steps: impl Fn(&S) -> Vec<(String, S)>,
    fault: impl Fn(&S, bool) -> Option<String>,
) -> Result<usize, String> {
    let mut number = HashMap::from([(start.clone(), 0)]);
    let mut found = vec![(start, 0, String::new())];
    let mut at = 0;
    while let Some((state, ..)) = found.get(at) {
        let steps = steps(state);
        if let Some(fault) = fault(state, steps.is_empty()) {
            let mut schedule = vec![fault];
            while at > 0 {
                let (_, from, step) = &found[at];
                schedule.push(step.clone());
                at = *from;
            }
            schedule.reverse();
            return Err(schedule.join(", "));
        }
        for (step, next) in steps {
            if !number.contains_key(&next) {
                number.insert(next.clone(), found.len());
                found.push((next, at, step));
            }
        }
        at += 1;
    }
    Ok(found.len())
}

/// All schedules of acknowledgements that wait in a ring or exit.
fn explore_ring(design: Design, scenario: &Scenario) -> Result<usize, String> {
    let steps = |state: &State| state.steps(design, scenario);
    explore(State::new(scenario), steps, State::fault)
}

/// All schedules of acknowledgements in memory.
fn explore_open(design: open::Design, scenario: &open::Scenario) -> Result<usize, String> {
    let steps = |state: &open::State| state.steps(design, scenario);
    explore(open::State::new(), steps, open::State::fault)
}

const ONE: &[&[Life]] = &[&[&[&[USED, CONFIG, USED]]]];
const CONFIGS: &[&[Life]] = &[&[&[&[CONFIG, CONFIG, USED]]]];
const TWO: &[&[Life]] = &[&[&[&[USED, CONFIG]]], &[&[&[USED, USED]]]];
const RESET: &[&[Life]] = &[&[&[&[USED, CONFIG]], &[&[USED, CONFIG]]]];
const RESET_OF_ONE: &[&[Life]] = &[&[&[&[USED]], &[&[USED]]], &[&[&[USED]]]];
const QUEUES: &[&[Life]] = &[&[&[&[USED, USED], &[USED, USED]]]];
const QUEUES_CONFIG: &[&[Life]] = &[&[&[&[USED, CONFIG], &[CONFIG, USED]]]];
const THREE_QUEUES: &[&[Life]] = &[&[&[&[USED], &[USED], &[USED]]]];
const QUEUES_RESET: &[&[Life]] = &[&[&[&[USED], &[USED]], &[&[USED], &[CONFIG]]]];
const QUEUES_BESIDE: &[&[Life]] = &[&[&[&[USED], &[USED]]], &[&[&[USED]]]];

#[test]
fn no_interrupt_is_lost_and_no_bit_stays_set_in_any_schedule() {
    for (name, lives) in [
        ("one device", ONE),
        ("a device that changes twice", CONFIGS),
        ("two devices", TWO),
        ("a reset", RESET),
        ("a reset beside another device", RESET_OF_ONE),
        ("two queues", QUEUES),
        ("two queues, and changes", QUEUES_CONFIG),
        ("three queues", THREE_QUEUES),
        ("a reset of two queues", QUEUES_RESET),
        ("two queues beside another device", QUEUES_BESIDE),
    ] {
        for room in 0..=2 {
            let scenario = Scenario { lives, room };
            match explore_ring(Design::Built, &scenario) {
                Ok(states) => println!("{name}, room for {room}: {states} states"),
                Err(schedule) => panic!("{name}, room for {room}: {schedule}"),
            }
        }
    }
}

/// Sees that a `design` loses what is told of, and prints how.
#[track_caller]
fn is_lost(design: impl Debug, found: Result<usize, String>) {
    let schedule = found.unwrap_err();
    println!("{design:?}: {schedule}");
    let is_lost = schedule.ends_with("nobody looks at");
    assert!(is_lost, "{design:?}: {schedule}");
}

/// The first schedule that ends in a fault, which there must be: of what nobody looks at.
#[track_caller]
fn lost(design: Design, lives: &'static [&'static [Life]], room: usize) {
    is_lost(design, explore_ring(design, &Scenario { lives, room }));
}

#[test]
fn each_part_of_the_order_is_needed() {
    for design in [
        Design::WorkerAppliesNothing,
        Design::AppliesBeforePublishing,
        Design::AppliesAfterSetting,
        Design::LooksWithoutFence,
        Design::TakesBeforeApplying,
    ] {
        lost(design, ONE, 2);
    }
}

#[test]
fn queues_that_share_an_interrupt_need_a_bit_that_is_set_in_one_step() {
    for room in 0..=2 {
        lost(Design::SetsBitInTwoSteps, QUEUES_CONFIG, room);
    }
}

const ALL: &[open::Scenario] = &[
    open::Scenario {
        exits: &[USED, USED, USED],
        changes: 2,
    },
    open::Scenario {
        exits: &[USED, CONFIG, USED, CONFIG],
        changes: 1,
    },
    open::Scenario {
        exits: &[USED, CONFIG, CONFIG, USED, USED],
        changes: 2,
    },
];

#[test]
fn a_guest_that_acknowledges_in_memory_misses_nothing_in_any_schedule() {
    for scenario in ALL {
        match explore_open(open::Design::Built, scenario) {
            Ok(states) => println!("{:?}: {states} states", scenario.exits),
            Err(schedule) => panic!("{:?}: {schedule}", scenario.exits),
        }
    }
}

#[test]
fn each_part_of_what_opens_and_closes_the_page_is_needed() {
    for design in [
        open::Design::StaysOpen,
        open::Design::OpensWhilePending,
        open::Design::CatchesUpLate,
        open::Design::TakesBitInTwoSteps,
    ] {
        is_lost(design, explore_open(design, &ALL[0]));
    }
}

//! That no interrupt is lost, and none stays pending, of devices with one queue or several behind one
//! interrupt, where acknowledgements wait in a ring (`registers=mapped`) and where each exits
//! (`registers=trap`): all schedules of workers, handlers, exits and resets, step by step. What is one
//! step here is one access to what they share there: `InterruptState::notify`, `AckRing::apply`,
//! KVM's side of the ring, and the handler of Linux (`vm_interrupt`), which looks at one queue after
//! the other. What a worker publishes is seen by the others at any time after, and at the latest
//! where the worker has a full fence. The same of registers that the guest can write to as to memory,
//! for which there is one CPU, and no worker.

#![allow(clippy::unwrap_used, clippy::panic)]

mod model;
mod open;

use std::collections::HashMap;
use std::hash::Hash;

use model::{CONFIG, Design, Life, Scenario, State, USED};

fn explore(design: Design, scenario: &Scenario) -> Result<usize, String> {
    let steps = |state: &State| state.steps(design, scenario);
    explore_from(State::new(scenario), steps, State::fault)
}

/// Goes through all schedules, the shortest first: how many states there are, or the first schedule
/// that ends in a fault.
fn explore_from<S: Clone + Eq + Hash>(
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
            match explore(Design::Built, &scenario) {
                Ok(states) => println!("{name}, room for {room}: {states} states"),
                Err(schedule) => panic!("{name}, room for {room}: {schedule}"),
            }
        }
    }
}

/// The first schedule that ends in a fault, which there must be: of what nobody looks at.
#[track_caller]
fn lost(design: Design, lives: &'static [&'static [Life]], room: usize) {
    let schedule = explore(design, &Scenario { lives, room }).unwrap_err();
    println!("{design:?}: {schedule}");
    let is_lost = schedule.ends_with("nobody looks at");
    assert!(is_lost, "{design:?}: {schedule}");
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

/// The same of an open page.
fn explore_open(design: open::Design, scenario: &open::Scenario) -> Result<usize, String> {
    let steps = |state: &open::State| state.steps(design, scenario);
    explore_from(open::State::new(), steps, open::State::fault)
}

const NOTHING: &[bool] = &[];
const LOOK: &[bool] = &[false];
const CHANGE: &[bool] = &[true];
const CHANGES: &[bool] = &[true, true, true];
const LOOKS: &[bool] = &[false, true, false, true];

#[test]
fn nothing_stays_unseen_of_an_open_page_and_it_opens_again_in_any_schedule() {
    for (name, refreshes) in [
        ("no change", NOTHING),
        ("a change", CHANGE),
        ("three changes", CHANGES),
        ("changes, and none", LOOKS),
    ] {
        for notifications in 0..=4 {
            let scenario = open::Scenario {
                notifications,
                refreshes,
            };
            match explore_open(open::Design::Built, &scenario) {
                Ok(states) => println!("{name}, {notifications} notifications: {states} states"),
                Err(schedule) => panic!("{name}, {notifications} notifications: {schedule}"),
            }
        }
    }
}

#[test]
fn each_part_of_the_order_of_an_open_page_is_needed() {
    for (design, notifications, refreshes) in [
        (open::Design::CatchesUpAfterServing, 2, NOTHING),
        (open::Design::ServesMeanwhile, 2, LOOK),
        (open::Design::ChangesAnOpenPage, 1, CHANGES),
        (open::Design::ClosesAfterSetting, 0, CHANGE),
        (open::Design::OpensWhilePending, 1, CHANGE),
        (open::Design::ClosesInTwoSteps, 1, LOOK),
    ] {
        let scenario = open::Scenario {
            notifications,
            refreshes,
        };
        let schedule = explore_open(design, &scenario).unwrap_err();
        println!("{design:?}: {schedule}");
        let is_lost = schedule.ends_with("nobody looks at");
        assert!(is_lost, "{design:?}: {schedule}");
    }
}

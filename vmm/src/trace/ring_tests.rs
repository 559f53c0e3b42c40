use super::super::event::What;
use super::*;

fn event(time: u64) -> Event {
    let what = What::Taken { refused: 0 };
    Event { time, what }
}

fn times(ring: &Ring) -> Vec<u64> {
    ring.events().map(|event| event.time).collect()
}

#[test]
fn a_ring_keeps_the_last_events_in_their_order_and_counts_the_others() {
    let mut ring = Ring::new(3);
    for (time, kept) in [
        (0, &[0][..]),
        (1, &[0, 1]),
        (2, &[0, 1, 2]),
        (3, &[1, 2, 3]),
        (4, &[2, 3, 4]),
        (5, &[3, 4, 5]),
        (6, &[4, 5, 6]),
    ] {
        ring.write(event(time));
        assert_eq!(times(&ring), kept);
        assert_eq!(ring.written(), time + 1);
        assert_eq!(ring.dropped(), ring.written() - kept.len() as u64);
    }
}

#[test]
fn a_ring_without_events_has_none_whatever_its_size() {
    for limit in [0, 1, 5] {
        let ring = Ring::new(limit);
        assert_eq!((times(&ring), ring.dropped()), (vec![], 0));
    }
}

#[test]
fn a_ring_of_one_place_keeps_the_last_event() {
    let mut ring = Ring::new(1);
    (0..5).for_each(|time| ring.write(event(time)));
    assert_eq!((times(&ring), ring.dropped()), (vec![4], 4));
}

#[test]
fn what_one_writer_has_written_the_next_goes_on_from() {
    let home = Home::new(2);
    for time in 0..3 {
        home.writer().ring().write(event(time));
    }
    let ring = home.take();
    assert_eq!((times(&ring), ring.dropped()), (vec![1, 2], 1));
}

#[test]
fn a_writer_that_panics_leaves_what_it_has_written() {
    let home = Home::new(2);
    let mut writer = home.writer();
    let thread = std::thread::spawn(move || {
        writer.ring().write(event(7));
        panic!("as expected");
    });
    thread.join().unwrap_err();
    assert_eq!(times(&home.take()), [7]);
}

#[test]
fn a_second_writer_of_the_same_ring_is_survived() {
    let home = Home::new(2);
    let (mut first, mut second) = (home.writer(), home.writer());
    first.ring().write(event(1));
    second.ring().write(event(2));
    drop(second);
    drop(first);
    assert_eq!(times(&home.take()), [1]);
}

#[test]
fn an_event_is_small() {
    assert!(size_of::<Event>() <= 40, "{}", size_of::<Event>());
}

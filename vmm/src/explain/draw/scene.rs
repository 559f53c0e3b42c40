//! The picture at the head of a step: who acts, and what goes from where to where.

use maud::{Markup, html};

use super::super::story::{Direction, Event, Side, Step};
use super::side;

/// What is in the picture. The four in the middle are in guest memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Driver,
    Buffers,
    DescriptorArea,
    DriverArea,
    DeviceArea,
    Kvm,
    Device,
    Disk,
}

use Place::{Buffers, DescriptorArea, DeviceArea, Disk, Driver, DriverArea, Kvm};

/// Each place: its name, and its left, top, width and height.
const PLACES: [(Place, &str, [i32; 4]); 8] = [
    (Driver, "driver", [2, 4, 88, 110]),
    (Buffers, "buffers", [134, 4, 112, 23]),
    (DescriptorArea, "Descriptor Area", [134, 33, 112, 23]),
    (DriverArea, "Driver Area", [134, 62, 112, 23]),
    (DeviceArea, "Device Area", [134, 91, 112, 23]),
    (Kvm, "KVM", [2, 142, 314, 24]),
    (Place::Device, "device", [290, 4, 88, 110]),
    (Disk, "disk", [324, 142, 54, 24]),
];

/// What goes from where to where in a step.
fn moves(event: &Event) -> &'static [(Place, Place)] {
    const DEVICE: Place = Place::Device;
    match event {
        Event::DescriptorsWritten { .. } => &[(Driver, Buffers), (Driver, DescriptorArea)],
        Event::AvailableEntry { .. } | Event::AvailableIndex { .. } => &[(Driver, DriverArea)],
        Event::NotificationWanted { .. } => &[(DeviceArea, Driver)],
        Event::Notify { .. } => &[(Driver, Kvm)],
        Event::Exit { .. } | Event::Signalled { .. } => &[(Kvm, DEVICE)],
        Event::Taken { .. } | Event::InterruptUnwanted { .. } => &[(DriverArea, DEVICE)],
        Event::Walked { .. } => &[(DescriptorArea, DEVICE)],
        Event::Parsed { .. } => &[(Buffers, DEVICE)],
        Event::FileIo {
            direction: Direction::Read,
            ..
        } => &[(Disk, DEVICE), (DEVICE, Buffers)],
        Event::FileIo { .. } => &[(Buffers, DEVICE), (DEVICE, Disk)],
        Event::StatusWritten { .. } => &[(DEVICE, Buffers)],
        Event::UsedAdded { .. } => &[(DEVICE, DeviceArea)],
        Event::Interrupt { .. } => &[(DEVICE, Kvm)],
        Event::Resumed { .. } | Event::HandlerEntered { .. } => &[(Kvm, Driver)],
        Event::Register { access } => match access.direction {
            Direction::Read => &[(DEVICE, Kvm), (Kvm, Driver)],
            Direction::Write => &[(Driver, Kvm), (Kvm, DEVICE)],
        },
        Event::UsedSeen { .. } => &[(Buffers, Driver), (DeviceArea, Driver)],
        Event::Waiting { .. } | Event::Woken { .. } => &[],
    }
}

/// The picture of a step.
pub fn scene(step: &Step) -> Markup {
    let moves = moves(&step.event);
    let actor = match step.side {
        Side::Driver => Driver,
        Side::Kvm => Kvm,
        Side::Device => Place::Device,
    };
    let state = |place| match place {
        place if place == actor => "acts",
        place
            if moves
                .iter()
                .any(|(from, to)| *from == place || *to == place) =>
        {
            "touched"
        }
        _ => "",
    };
    html! {
        svg class={ "scene " (side(step.side)) } viewBox="0 0 380 170" aria-hidden="true" {
            @for (place, name, [x, y, width, height]) in PLACES {
                g class=(state(place)) {
                    rect x=(x) y=(y) width=(width) height=(height) rx="5" {}
                    text x=(x + width / 2) y=(y + height / 2) { (name) }
                }
            }
            @for (from, to) in moves { path d=(arrow(*from, *to)) {} }
        }
    }
}

/// An arrow from a place to one beside, above or below it.
fn arrow(from: Place, to: Place) -> String {
    let of = |wanted| PLACES.into_iter().find(|(place, ..)| *place == wanted);
    let [from, to] = [from, to].map(|place| of(place).map_or([0; 4], |(.., area)| area));
    let right = |[x, _, width, _]: [i32; 4]| x + width;
    let bottom = |[_, y, _, height]: [i32; 4]| y + height;
    // In the middle of what they have beside or above each other.
    let across = |low: fn([i32; 4]) -> i32, high: &dyn Fn([i32; 4]) -> i32| {
        (low(from).max(low(to)) + high(from).min(high(to))) / 2
    };
    if right(from) < to[0] || right(to) < from[0] {
        let y = across(|area| area[1], &bottom);
        let (start, end, back) = match right(from) < to[0] {
            true => (right(from) + 3, to[0] - 3, -8),
            false => (from[0] - 3, right(to) + 3, 8),
        };
        let neck = end + back;
        return format!("M{start} {y}H{neck}M{end} {y}l{back} -5v10z");
    }
    let x = across(|area| area[0], &right);
    let (start, end, back) = match bottom(from) < to[1] {
        true => (bottom(from) + 3, to[1] - 3, -8),
        false => (from[1] - 3, bottom(to) + 3, 8),
    };
    let neck = end + back;
    format!("M{x} {start}V{neck}M{x} {end}l-5 {back}h10z")
}

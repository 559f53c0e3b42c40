use super::super::sample::{OURS, story};
use super::*;

#[test]
fn show() {
    std::fs::write("/tmp/page-out/ours.html", page(&story(OURS)).unwrap()).unwrap();
    for (name, shape) in [
        (
            "hard",
            super::super::sample::Shape {
                queue_size: 512,
                indirect: true,
                len: 1 << 20,
                past_end: true,
                ours: false,
            },
        ),
        (
            "small",
            super::super::sample::Shape {
                queue_size: 8,
                ..OURS
            },
        ),
        (
            "indirect",
            super::super::sample::Shape {
                indirect: true,
                ..OURS
            },
        ),
    ] {
        std::fs::write(
            format!("/tmp/page-out/{name}.html"),
            page(&story(shape)).unwrap(),
        )
        .unwrap();
    }
}

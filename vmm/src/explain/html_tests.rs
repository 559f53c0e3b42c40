use std::collections::HashSet;

use super::super::sample::{OURS, Shape, story};
use super::*;

/// A story that is long in every way.
const LONG: Shape = Shape {
    queue_size: 512,
    indirect: true,
    len: 1 << 20,
    past_end: true,
    ours: false,
};

/// What is between each `before` and the next `after`.
fn all_between<'t>(text: &'t str, before: &str, after: &str) -> Vec<&'t str> {
    let parts = text.split(before).skip(1);
    parts
        .map(|part| &part[..part.find(after).unwrap()])
        .collect()
}

/// The part of the page that shows this step.
fn step<'t>(page: &'t str, id: &str) -> &'t str {
    all_between(page, "<article", "</article>")
        .into_iter()
        .find(|article| article.contains(&format!("id=\"{id}\"")))
        .unwrap()
}

#[test]
fn data_that_was_not_looked_at_before_is_not_shown_as_written() {
    let page = page(&story(OURS)).unwrap();
    let data = |id| {
        let step = step(&page, id);
        let data = step.find("<h4>data").unwrap();
        let end = data + step[data..].find("<h4>status").unwrap();
        step[data..end].to_owned()
    };
    assert!(!data("read-1").contains("<b>"), "{}", data("read-1"));
    assert!(data("read-10").contains("<b>"), "{}", data("read-10"));
}

#[test]
fn the_page_of_mapped_registers_says_that_writes_alone_are_exits() {
    let mut story = story(OURS);
    story.device.registers = "mapped".into();
    assert!(page(&story).unwrap().contains("Every write to a register"));
}

#[test]
fn every_step_is_on_the_page_and_every_link_leads_to_one() {
    let story = story(OURS);
    let page = page(&story).unwrap();
    let ids = all_between(&page, "<article", ">");
    let ids: HashSet<&str> = ids
        .iter()
        .map(|tag| all_between(tag, "id=\"", "\"")[0])
        .collect();
    let steps: usize = story.acts.iter().map(|act| act.steps.len()).sum();
    assert_eq!(ids.len(), 1 + story.negotiation.len() + steps);
    let links = all_between(&page, "href=\"#", "\"");
    assert!(links.len() > ids.len());
    for link in links {
        assert!(ids.contains(link), "{link}");
    }
}

#[test]
fn the_page_needs_nothing_else() {
    let page = page(&story(OURS)).unwrap();
    assert!(page.contains("default-src 'none'"));
    for foreign in ["http:", "https:", "src=", "<link", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn nothing_of_the_run_ends_or_begins_an_element() {
    let hostile = "</script><script>alert(1)</script><!--\" onload=\"x\" &amp;";
    let mut told = story(OURS);
    told.device.id = hostile.into();
    told.device.disk = Some(hostile.into());
    told.machine.cmdline = hostile.into();
    told.notes.push(hostile.into());
    told.negotiation[0].register = Some(hostile.into());
    told.negotiation[0].by.symbol = Some(hostile.into());
    told.negotiation[0].meaning = vec![hostile.into()];
    let page = page(&told).unwrap();
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert_eq!(page.matches("<!--").count(), 0);
    assert!(!page.contains("\" onload=\"x\""));
}

#[test]
fn the_story_is_in_the_page_as_json() {
    let mut told = story(OURS);
    told.device.id = "</script>".into();
    let page = page(&told).unwrap();
    let json = all_between(&page, "type=\"application/json\">", "</script>");
    assert_eq!(serde_json::from_str::<Story>(json[0]).unwrap(), told);
}

#[test]
fn a_page_is_no_larger_than_a_picture() {
    for shape in [OURS, LONG] {
        let len = page(&story(shape)).unwrap().len();
        assert!((100_000..600_000).contains(&len), "{len}");
    }
}

#[test]
fn of_a_long_ring_only_what_matters_is_drawn_and_the_rest_counted() {
    let page = page(&story(LONG)).unwrap();
    let step = step(&page, "read-1");
    assert_eq!(step.matches("class=\"slot\"").count(), 2 * 4);
    assert_eq!(step.matches("and 508 more, not drawn").count(), 3);
    assert!(step.contains("1048576 bytes, the first 64 drawn"));
}

#[test]
fn a_step_shows_what_it_changes() {
    let page = page(&story(OURS)).unwrap();
    let changed = |id| step(&page, id).matches("class=\"new").count();
    // Three descriptors.
    assert_eq!(changed("read-1"), 3);
    // The entry; then the index, and from there on the entry waits for the device.
    assert!(step(&page, "read-2").contains("<li class=\"new\"><span class=\"slot\">[0]"));
    assert!(step(&page, "read-3").contains("<div class=\"new\"><dt>idx</dt><dd>1</dd>"));
    assert!(step(&page, "read-3").contains("pending\"><span class=\"slot\">[0]"));
    assert!(step(&page, "read-2").contains("belongs to the <span class=\"who driver\">"));
    assert!(step(&page, "read-3").contains("belongs to the <span class=\"who device\">"));
    assert!(step(&page, "read-12").contains("belongs to the <span class=\"who driver\">"));
    // The data of a read, of which 64 bytes are drawn.
    assert_eq!(step(&page, "read-10").matches("<b>").count(), 64 + 4);
    assert_eq!(step(&page, "read-10").matches("<b>54</b>").count(), 2);
}

#[test]
fn a_story_that_has_hardly_begun_has_a_page_too() {
    let mut told = story(OURS);
    told.negotiation.clear();
    told.acts.clear();
    told.queue = super::super::story::Queue::default();
    let page = page(&told).unwrap();
    assert_eq!(page.matches("<article").count(), 1);
}

#[test]
fn each_picture_has_one_who_acts_and_arrows_between_different_places() {
    let page = page(&story(OURS)).unwrap();
    let pictures = all_between(&page, "<svg", "</svg>");
    assert_eq!(pictures.len(), 2 * 20);
    for picture in pictures {
        assert_eq!(picture.matches("<g class=\"acts\"").count(), 1, "{picture}");
        let arrows = all_between(picture, " d=\"", "\"");
        assert_eq!(arrows.iter().collect::<HashSet<_>>().len(), arrows.len());
    }
    // From the disk up to the device, and on to the buffers.
    let read = step(&page, "read-10");
    assert!(read.contains("d=\"M351 139V125M351 117l-5 8h10z\""));
    assert!(read.contains("d=\"M287 15H257M249 15l8 -5v10z\""));
}

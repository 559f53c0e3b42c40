use super::super::sample;
use super::*;

/// Elements that have no end tag.
const VOID: [&str; 1] = ["meta"];

/// Panics where `page` is not one tree of elements with quoted attributes and escaped text; gives
/// the names of its elements.
fn elements(page: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("no doctype");
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag has no end");
        assert!(
            !rest[..start].contains('>'),
            "'>' in text: {}",
            &rest[..start]
        );
        let tag = &rest[start + 1..end];
        assert_eq!(
            tag.matches('"').count() % 2,
            0,
            "a quote is open in <{tag}>"
        );
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "</{name}>");
        } else {
            names.push(name.to_owned());
            if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name.to_owned());
            }
        }
        rest = &rest[end + 1..];
    }
    assert_eq!(open, [""; 0], "not closed");
    assert_eq!(rest.trim(), "");
    names
}

#[test]
fn the_page_is_well_formed_with_its_plots_and_tables() {
    let page = page(&sample::report()).unwrap();
    let names = elements(&page);
    let count = |name: &str| names.iter().filter(|found| *found == name).count();
    assert_eq!(count("svg"), 3);
    assert_eq!(count("table"), 9);
    assert_eq!(count("figure"), 3);
    assert!(count("circle") > 100, "no samples are drawn");
}

#[test]
fn the_page_refers_to_nothing_outside() {
    let page = page(&sample::report()).unwrap();
    for reference in [
        "http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link",
    ] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn what_comes_from_outside_is_escaped() {
    let page = page(&sample::report()).unwrap();
    assert!(page.contains("Imaginary &lt;CPU&gt; &amp; &quot;Friends&quot; @ 3.00GHz"));
    assert!(page.contains("in /tmp/&lt;dir&gt;"));
    assert!(page.contains("&amp; &lt;nothing&gt; else"));
}

#[test]
fn each_colour_of_a_plot_has_one_in_the_style_sheet() {
    for colour in plot::COLOURS {
        let name = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
        for attribute in ["fill", "stroke"] {
            let rule = format!("svg [{attribute}=\"{name}\"]");
            assert!(STYLE.contains(&rule), "{rule}");
        }
    }
}

#[test]
fn a_report_of_little_is_a_page_too() {
    let mut report = sample::report();
    report.exits.as_mut().unwrap().kinds.clear();
    report
        .block
        .as_mut()
        .unwrap()
        .cells
        .retain(|cell| cell.figures.is_err());
    report.linux.as_mut().unwrap().disks.clear();
    report.start = None;
    report.targets.clear();
    report.warnings.clear();
    report.host.time = u64::MAX;
    let page = page(&report).unwrap();
    elements(&page);
    assert!(page.contains("<p class=\"muted\">Other &lt;VMMs&gt;: none is installed.</p>"));
}

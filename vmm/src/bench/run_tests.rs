use super::super::report::Series;
use super::super::sample;
use super::*;

#[test]
fn quick_is_little_of_what_is_not_said_and_all_of_what_is() {
    let little = quick(&BlockOptions::default());
    assert_eq!(little.depths, QUICK_DEPTHS);
    assert_eq!(little.amount, QUICK_AMOUNT);
    let said = BlockOptions {
        depths: vec![7],
        amount: Amount::Requests(9),
        ..BlockOptions::default()
    };
    assert_eq!(quick(&said), said);
}

#[test]
fn a_guest_whose_instructions_are_emulated_is_warned_of() {
    let alu_takes = |ns: f64| {
        let mut report = sample::report();
        let kind = &mut report.exits.as_mut().unwrap().kinds[0];
        kind.name = "alu".into();
        kind.cost.as_mut().unwrap().vmm = Series::new(vec![ns]);
        report
    };
    assert_eq!(slow_guest(&sample::report()), None, "nobody knows");
    assert_eq!(slow_guest(&alu_takes(3.0)), None);
    let warning = slow_guest(&alu_takes(1_500.0)).unwrap();
    assert!(warning.contains("1.50 us"), "{warning}");
}

#[test]
fn a_report_goes_to_every_file_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| Some(dir.path().join(name));
    let outputs = Outputs {
        json: path("json"),
        csv: path("csv"),
        html: None,
    };
    outputs.check().unwrap();
    outputs.write(&sample::report()).unwrap();
    let names = std::fs::read_dir(dir.path()).unwrap();
    assert_eq!(names.count(), 2);
}

#[test]
fn a_comparison_is_shown_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    output::write(&path("a"), &output::json(&sample::report()).unwrap()).unwrap();
    let mut out = Vec::new();
    let request = Request::Compare {
        a: path("a"),
        b: path("a"),
        json: Some(path("c")),
    };
    run(&request, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains(" same, 0 higher"));
    let kept = std::fs::read(path("c")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept["differences"][0]["verdict"], "same");
}

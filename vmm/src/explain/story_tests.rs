use super::super::sample::{OURS, Shape, story};
use super::*;

#[test]
fn a_story_survives_json() {
    for shape in [
        OURS,
        Shape {
            indirect: true,
            past_end: true,
            ours: false,
            ..OURS
        },
    ] {
        let story = story(shape);
        let text = serde_json::to_string(&story).unwrap();
        assert_eq!(serde_json::from_str::<Story>(&text).unwrap(), story);
    }
}

#[test]
fn json_names_what_happens_and_has_numbers_as_numbers() {
    let json = serde_json::to_value(story(OURS)).unwrap();
    let steps = json["acts"][0]["steps"].as_array().unwrap();
    let notify = steps.iter().find(|step| step["event"]["kind"] == "notify");
    let notify = notify.unwrap();
    assert_eq!(notify["side"], "driver");
    assert_eq!(notify["event"]["address"], 0xd000_0050_u64);
    assert_eq!(notify["event"]["by"]["rip"], 0x10_24b6);
    let descriptor = &steps[0]["event"]["chain"][0];
    assert_eq!(descriptor["index"], 0);
    assert_eq!(descriptor["flag_names"][0], "NEXT");
}

use std::fs;

use super::super::file::tests::{allocated, image, preallocate};
use super::*;

#[test]
fn holes_are_tried_out_past_the_end_of_an_image_that_has_no_file_beside_it() {
    for (len, more) in [(5 * 512, 0), (8192, 1 << 20)] {
        let (_dir, path) = image(&vec![7; len]);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        if more > 0 && !preallocate(&file, more) {
            continue;
        }
        file.sync_all().unwrap();
        let before = (allocated(&path), fs::metadata(&path).unwrap().len());
        // /proc has no room for files, and is another file system.
        for elsewhere in ["/proc/self/maps", "/nothing"] {
            let metadata = file.metadata().unwrap();
            let holes = can_punch_holes(Path::new(elsewhere), &file, &metadata);
            assert_eq!(holes, can_punch_holes(&path, &file, &metadata));
        }
        let after = (allocated(&path), fs::metadata(&path).unwrap().len());
        assert_eq!(after, before);
        assert_eq!(fs::read(&path).unwrap(), vec![7; len]);
    }
}

use imago::StorageExt;

use super::*;

const CLUSTER: u64 = 4096;

/// Header, L1 table, refcount table and an L2 table, each in a cluster.
fn metadata() -> Metadata {
    let table = |start, len| Table { start, len };
    Metadata {
        cluster_bits: 12,
        refcount_order: 4,
        l1: table(CLUSTER, 16),
        refcount_table: RwLock::new(table(2 * CLUSTER, CLUSTER)),
        // No table is where the header is, whatever an image says.
        tables: RwLock::new([(0, Kind::Refcounts), (3 * CLUSTER, Kind::References)].into()),
    }
}

#[test]
fn whole_sectors_are_data_and_not_written_over_metadata() {
    let (cluster, metadata) = (CLUSTER, metadata());
    for (position, len, kind) in [
        (0, 72, Some(Kind::References)),
        (0, cluster, None),
        (0, 512, None),
        (512, 512, None),
        (cluster + 8, 8, Some(Kind::Entry)),
        (cluster, cluster, None),
        (2 * cluster - 512, 512, None),
        (2 * cluster, 8, Some(Kind::Entry)),
        (2 * cluster + 1024, 1024, None),
        (3 * cluster, cluster, Some(Kind::References)),
        (3 * cluster, 512, None),
        (4 * cluster - 512, 1024, None),
        (4 * cluster, 3 * cluster, Some(Kind::Data)),
    ] {
        assert_eq!(metadata.kind(position, len).ok(), kind, "{position}+{len}");
    }
}

#[test]
fn metadata_is_neither_cleared_nor_given_back() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(8 * CLUSTER).unwrap();
    let mut ordered = OrderedFile::new(file, true, None).unwrap();
    ordered.metadata = Some(metadata());
    for number in 0..8 {
        let position = number * CLUSTER;
        let is_data = number > 3;
        let cleared = ordered.write_zeroes(position, CLUSTER);
        assert_eq!(cleared.is_ok(), is_data, "{number}: {cleared:?}");
        let given_back = ordered.discard(position, CLUSTER);
        assert_eq!(given_back.is_ok(), is_data, "{number}: {given_back:?}");
    }
}

use super::*;

#[test]
fn whole_sectors_are_data_and_not_written_over_metadata() {
    let cluster = 4096;
    let table = |start, len| Table { start, len };
    let metadata = Metadata {
        cluster_bits: 12,
        refcount_order: 4,
        l1: table(cluster, 16),
        refcount_table: RwLock::new(table(2 * cluster, cluster)),
        // No table is where the header is, whatever an image says.
        tables: RwLock::new([(0, Kind::Refcounts), (3 * cluster, Kind::References)].into()),
    };
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

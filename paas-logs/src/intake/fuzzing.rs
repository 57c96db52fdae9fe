//! What each parser makes of any bytes.

use paas_core::model::Timestamp;

use super::sorted::Sorted;
use super::{bulk, lines, otlp};

fn sorted() -> Sorted {
    Sorted::new(Timestamp(1_800_000_000_000), true, 10_000)
}

fn check(sorted: &Sorted) {
    for (claims, _, draft) in sorted.groups() {
        assert_eq!(draft.lines(), draft.times.len());
        assert!(claims.instances().all(|name| !name.is_empty()));
    }
}

/// JSON lines, and plain ones.
pub fn intake_lines(bytes: &[u8]) {
    for read in [lines::json, lines::text] {
        let mut sorted = sorted();
        let _refused = read(bytes, &mut sorted);
        check(&sorted);
    }
}

/// A bulk request.
pub fn intake_bulk(bytes: &[u8]) {
    let mut sorted = sorted();
    let _refused = bulk::bulk(bytes, &mut sorted);
    check(&sorted);
}

/// OTLP, in both encodings.
pub fn intake_otlp(bytes: &[u8]) {
    for read in [otlp::json, otlp::protobuf] {
        let mut sorted = sorted();
        let _refused = read(bytes, &mut sorted);
        check(&sorted);
    }
}

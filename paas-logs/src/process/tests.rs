use proptest::prelude::*;

use super::*;
use crate::counter::Counters;
use crate::testing::{origin, rules};

fn batch(text: &str) -> LogBatch {
    LogBatch::new(origin(), Bytes::from(text.to_owned()), Timestamp(7), LogPosition::offset(1, 100))
}

fn processor(rules: LogRules) -> Processor {
    Processor::new(&ProcessConfig::default(), &[rules], &[], &Counters::default()).unwrap()
}

fn processed(rules: &LogRules, text: &str) -> LogBatch {
    processor(rules.clone()).process(batch(text), true)
}

fn lines(batch: &LogBatch) -> Vec<(u64, String)> {
    let line = |line: paas_core::model::LogLine<'_>| {
        (line.position.sequence, String::from_utf8_lossy(line.bytes).into_owned())
    };
    batch.lines().map(line).collect()
}

#[test]
fn what_no_rule_is_about_goes_on_as_it_is() {
    let given = processed(&rules("{}"), "an INFO\nb\n");
    let mut expected = batch("an INFO\nb\n");
    expected.levels = vec![Some(Level::Info), None];
    assert_eq!(given, expected);
}

#[test]
fn lines_are_dropped_and_the_rest_keeps_its_places() {
    let rules = rules(r#"{"drop":["path:\"/health\"","level:<info"]}"#);
    let given = processed(&rules, "path=/health\nDEBUG x\nERROR path=/cart\npath=/health ERROR\n");
    assert_eq!(lines(&given), [(121, "ERROR path=/cart".to_owned())]);
    assert_eq!((given.levels.clone(), given.times.clone()), (vec![Some(Level::Error)], vec![Timestamp(7)]));
    assert_eq!(given.end(), LogPosition::offset(1, 157));
}

#[test]
fn what_is_read_is_read_of_what_is_left_and_decides_what_is_dropped() {
    let rules = rules(
        r#"{"redact":["email"],"parse":[{"pattern":"^(?<status>\\d+) (?<who>\\S+)"}],"drop":["status:2*"]}"#,
    );
    let given = processed(&rules, "200 a@b.io\n500 c@d.io\nnone\n");
    assert_eq!(lines(&given), [(111, "500 [redacted:email]".to_owned()), (122, "none".to_owned())]);
    assert_eq!(given.fields.of(0), b"status=500 who=[redacted:email]");
    assert_eq!(given.fields.of(1), b"");
}

#[test]
fn where_all_are_dropped_the_end_goes_on() {
    let given = processed(&rules(r#"{"drop":["*"]}"#), "a\nb\n");
    assert_eq!((given.starts.len(), given.end()), (0, LogPosition::offset(1, 104)));
}

#[test]
fn a_sample_keeps_a_share_and_always_the_same() {
    let rules = rules(r#"{"sample":[{"match":"noise","keep":"10%"}]}"#);
    let text: String = (0..2_000).map(|number| format!("noise {number}\nsignal\n")).collect();
    let given = processed(&rules, &text);
    let kept = lines(&given).iter().filter(|(_, line)| line.starts_with("noise")).count();
    assert!((120..280).contains(&kept), "{kept}");
    assert_eq!(given.starts.len() - kept, 2_000);
    assert_eq!(given, processed(&rules, &text));
}

#[test]
fn things_are_taken_out_line_by_line() {
    let given =
        processed(&rules(r#"{"redact":["email"]}"#), "a 4111111111111111\nb\nto x@y.io from z@y.io\n");
    let expected = [
        (100, "a [redacted:card]".to_owned()),
        (119, "b".to_owned()),
        (121, "to [redacted:email] from [redacted:email]".to_owned()),
    ];
    assert_eq!(lines(&given), expected);
}

#[test]
fn what_is_taken_out_of_several_lines_shows_in_each() {
    let key = "x -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- y\n";
    let given: Vec<String> = lines(&processed(&rules("{}"), key)).into_iter().map(|(_, line)| line).collect();
    assert_eq!(given, ["x [redacted:private-key]", "[redacted:private-key]", "[redacted:private-key] y"]);
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let config = ProcessConfig { longest: 10, ..ProcessConfig::default() };
    let processor = Processor::new(&config, &[], &[], &Counters::default()).unwrap();
    let given = processor.process(batch("short\n123456789\u{e9}\u{e9}\n"), true);
    let texts: Vec<String> = lines(&given).into_iter().map(|(_, line)| line).collect();
    assert_eq!(texts, ["short", "123456789 [cut: 13 bytes]"]);
}

#[test]
fn each_rule_counts_what_it_did() {
    let rules = rules(r#"{"drop":["health"],"sample":[{"match":"noise","keep":"0%"}],"redact":["email"]}"#);
    let counters = Counters::default();
    let processor = Processor::new(&ProcessConfig::default(), &[rules], &[], &counters).unwrap();
    processor.process(batch("health\nhealth\nnoise\na@b.io c@d.io\n"), true);
    processor.process(batch("health\n"), false);
    let counts = counters.all().into_iter().map(|count| (count.kind, count.count));
    let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [(LogRuleKind::Drop, 2), (LogRuleKind::Sample, 1), (LogRuleKind::Redact, 2)]);
}

proptest! {
    #[test]
    fn any_bytes_keep_their_places(
        text in prop::collection::vec(prop_oneof![3 => prop::sample::select(b"drop 4111111111111111\n@.io".to_vec()), 1 => any::<u8>()], 0..400),
    ) {
        let rules = rules(r#"{"drop":["drop"],"redact":["email"]}"#);
        let processor = processor(rules);
        let raw = LogBatch::new(origin(), Bytes::from(text), Timestamp(7), LogPosition::offset(1, 0));
        let given = processor.process(raw.clone(), true);
        prop_assert_eq!(given.end(), raw.end());
        let places: Vec<_> = raw.lines().map(|line| line.position).collect();
        for line in given.lines() {
            let at = places.iter().position(|place| *place == line.position);
            prop_assert!(at.is_some());
        }
        prop_assert!(given.lines().map(|line| line.position).is_sorted());
    }
}

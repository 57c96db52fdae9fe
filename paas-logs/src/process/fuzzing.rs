//! What rules make of any bytes.

use paas_core::model::LogRules;

use super::{ProcessConfig, dry_run};

/// Every way in which lines are joined, taken apart, read and sent elsewhere.
const RULES: &str = r#"{
    "join": "stack-traces",
    "redact": ["email", "phone", "national-id", {"name": "own", "pattern": "o\\S+"}],
    "parse": ["json", "logfmt", "nginx", "spring-boot", "log4j", "go", "python", "mysql", {"pattern": "(?<a>\\w+) (?<b>\\d+)"}],
    "rename": {"a": "c", "lvl": "level", "ts": "time"},
    "add": [{"match": "a", "level": "warn", "fields": {"d": "e f"}}],
    "drop": ["b:<3"],
    "sample": [{"match": "level:info", "keep": "50%"}],
    "route": [{"match": "c*", "to": "elsewhere"}]
}"#;

/// Lines by all rules there are: none makes a line of nothing, or shows it in a bad way.
pub fn rules(bytes: &[u8]) {
    let Ok(rules) = serde_json::from_str::<LogRules>(RULES) else { unreachable!("they are written here") };
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    if let Ok(trials) = dry_run(&ProcessConfig::default(), &[rules], bytes) {
        assert!(trials.len() <= lines);
    }
}

//! Formats of lines, and what is read of a line that has one.

use std::borrow::Cow;

use paas_core::Result;
use paas_core::model::{CaptureRoom, LogFormat, LogPairs, Pattern, PatternFinder, field};

/// A format that is ready to be held against lines.
#[derive(Debug)]
pub(super) enum Format {
    /// The line tells its fields by itself.
    Json,
    Logfmt,
    /// The named groups of the first of these that matches.
    Groups(Vec<PatternFinder>),
}

/// What is read of a line besides its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told<'a> {
    pub(super) level: Option<&'a [u8]>,
    pub(super) time: Option<Cow<'a, [u8]>>,
}

/// The fields in which programs tell the time.
const TIMES: [&str; 6] = ["time", "timestamp", "ts", "@timestamp", "t", "datetime"];

/// Expressions of the formats that have names. What a group `level` or `time` matches is no field.
const NGINX: [&str; 2] = [
    r#"^(?<client>\S+) \S+ (?<user>\S+) \[(?<time>[^\]]+)\] "(?:(?<method>[A-Z]+) (?<path>[^ "]+)(?: (?<protocol>[^"]+))?|[^"]*)" (?<status>\d{3}) (?<bytes>\d+|-)(?: "(?<referrer>[^"]*)" "(?<agent>[^"]*)")?"#,
    r"^(?<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?<level>\w+)\] (?<pid>\d+)#(?<thread>\d+): (?:\*(?<connection>\d+) )?",
];
const SPRING_BOOT: [&str; 1] = [
    r"^(?<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d+(?:Z|[+-]\d\d:?\d\d)?) +(?<level>[A-Z]+) (?<pid>\d+) --- (?:\[(?<application>[^\]]*)\] )?\[ *(?<thread>[^\]]*)\] (?<logger>\S+) *: ",
];
const LOG4J: [&str; 2] = [
    r"^(?<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d+(?:Z|[+-]\d\d:?\d\d)?) +\[(?<thread>[^\]]*)\] +(?<level>[A-Z]+) +(?<logger>[\w.$]+)(?: -|:) ",
    r"^(?:(?<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d+(?:Z|[+-]\d\d:?\d\d)?) +)?(?<level>[A-Z]+) +\[(?<thread>[^\]]*)\] +(?<logger>[\w.$]+)(?: -|:) ",
];
const GO: [&str; 2] = [
    r"^(?<level>[IWEF])(?<time>\d{4} \d\d:\d\d:\d\d\.\d+) +(?<thread>\d+) (?<file>[^ :\]]+):(?<line>\d+)\] ",
    r"^(?:\S+ )?(?<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)?) (?:(?<file>[^ :]+\.go):(?<line>\d+): )?",
];
const PYTHON: [&str; 3] = [
    r"^(?<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?) - (?<logger>\S+) - (?<level>[A-Z]+) - ",
    r"^(?<level>DEBUG|INFO|WARNING|ERROR|CRITICAL):(?<logger>[^ :]+):",
    r"^(?<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): {2,}",
];
const MYSQL: [&str; 2] = [
    r"^(?<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d)) (?<thread>\d+) \[(?<level>\w+)\](?: \[(?<code>MY-\d+)\] \[(?<subsystem>\w+)\])? ",
    r"^# Time: (?<time>\S+)\n# User@Host: (?<user>[^\[\s]*)\[[^\]]*\] @ +(?<host>\S*)[^\n]*\n# Query_time: (?<query_time>[\d.]+) +Lock_time: (?<lock_time>[\d.]+) +Rows_sent: (?<rows_sent>\d+) +Rows_examined: (?<rows_examined>\d+)",
];

impl Format {
    /// Compiles a format.
    ///
    /// # Errors
    /// Where an expression takes too much memory.
    pub(super) fn new(format: &LogFormat) -> Result<Self> {
        let known: &[&str] = match format {
            LogFormat::Json => return Ok(Self::Json),
            LogFormat::Logfmt => return Ok(Self::Logfmt),
            LogFormat::Pattern(pattern) => return Ok(Self::Groups(vec![pattern.finder()?])),
            LogFormat::Nginx => &NGINX,
            LogFormat::SpringBoot => &SPRING_BOOT,
            LogFormat::Log4j => &LOG4J,
            LogFormat::Go => &GO,
            LogFormat::Python => &PYTHON,
            LogFormat::Mysql => &MYSQL,
            // A kind that a later version knows.
            _ => &[],
        };
        let finder = |source: &&str| Pattern::new(source, false)?.finder();
        Ok(Self::Groups(known.iter().map(finder).collect::<Result<_>>()?))
    }

    /// Room for what its expressions find.
    pub(super) fn rooms(&self) -> Vec<CaptureRoom> {
        match self {
            Self::Groups(finders) => finders.iter().map(|_| CaptureRoom::default()).collect(),
            _ => Vec::new(),
        }
    }

    /// Reads a line. `None` where it has another format.
    pub(super) fn read<'a>(
        &self,
        line: &'a [u8],
        rooms: &mut [CaptureRoom],
        fields: &mut LogPairs,
    ) -> Option<Told<'a>> {
        let finders = match self {
            Self::Json => return (line.trim_ascii_start().first() == Some(&b'{')).then(|| of_fields(line)),
            Self::Logfmt => return is_logfmt(line).then(|| of_fields(line)),
            Self::Groups(finders) => finders,
        };
        let mut told = Told::default();
        let mut is_read = |(finder, room): (&PatternFinder, &mut CaptureRoom)| {
            finder.capture(line, room, |name, value| match name {
                "level" => told.level = Some(value),
                "time" => told.time = Some(Cow::Borrowed(value)),
                _ => fields.set(name, value),
            })
        };
        finders.iter().zip(rooms).any(&mut is_read).then_some(told)
    }
}

/// The level is found in every line; the time is not.
fn of_fields(line: &[u8]) -> Told<'_> {
    Told { level: None, time: TIMES.iter().find_map(|name| field(line, name)) }
}

/// Whether a line begins with a pair.
fn is_logfmt(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'=');
    end.is_some_and(|end| end > 0 && line[end] == b'=')
}

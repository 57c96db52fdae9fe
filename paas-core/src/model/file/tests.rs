//! What no table of cases shows: whatever can be described can be written and read again, and nothing makes the reader
//! panic, stall, or point outside the file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::{
    AbortRule, ByteSize, CpuQuantity, EnvironmentName, EnvironmentOverlay, HeaderMatch, Kind, Limits,
    Percent, Probe, Protocol, Release, Scalar, SecretName, ServiceName, ServiceOverlay, ServiceSpec,
    Strategy as Shape, VolumeName, VolumeSpec,
};

fn duration(least: u64, most: u64) -> impl Strategy<Value = Duration> {
    prop_oneof![
        (least..=most).prop_map(Duration::from_millis),
        (least / 1000 + 1..=most / 1000).prop_map(Duration::from_secs)
    ]
}

fn percent() -> impl Strategy<Value = Percent> {
    (0u32..=10_000).prop_map(|points| format!("{}.{:02}%", points / 100, points % 100).parse().unwrap())
}

fn command() -> impl Strategy<Value = Command> {
    let argument = any::<String>().prop_map(|text| text.replace(['\0', '$'], "_"));
    ("[^\0$]{1,20}", vec(argument, 0..4), any::<bool>()).prop_map(|(program, mut arguments, port)| {
        if port {
            arguments.push("--port=${PORT} $$".to_owned());
        }
        Command::new(std::iter::once(program).chain(arguments)).unwrap()
    })
}

fn probe(port: bool) -> impl Strategy<Value = Probe> {
    let check = if port {
        prop_oneof![
            "/[!-~]{0,20}".prop_map(Check::Http),
            Just(Check::Tcp),
            command().prop_map(Check::Command)
        ]
        .boxed()
    } else {
        command().prop_map(Check::Command).boxed()
    };
    (check, duration(50, 3_600_000), duration(50, 3_600_000), 1u32..=100).prop_map(
        |(check, every, timeout, failures)| {
            let mut probe = Probe::new(check).unwrap();
            (probe.every, probe.timeout, probe.failures) = (every, timeout, failures);
            probe
        },
    )
}

fn release(volumes: bool) -> impl Strategy<Value = Release> {
    let canary =
        btree_set(percent(), 1..5).prop_map(|steps| Shape::Canary { steps: steps.into_iter().collect() });
    let shape = if volumes {
        prop_oneof![Just(Shape::Recreate), Just(Shape::Ordered)].boxed()
    } else {
        prop_oneof![
            Just(Shape::Rolling),
            Just(Shape::Recreate),
            Just(Shape::Ordered),
            Just(Shape::BlueGreen),
            canary
        ]
        .boxed()
    };
    let rule = prop_oneof![
        percent().prop_map(AbortRule::Errors),
        duration(0, 31_000_000_000).prop_map(AbortRule::Latency)
    ];
    let header = ("[a-zA-Z-]{1,20}", "[ -~]{0,20}").prop_map(|(name, value)| HeaderMatch { name, value });
    (
        shape,
        (duration(0, 31_000_000_000), duration(0, 1_000_000), duration(1_000, 31_000_000_000)),
        any::<bool>(),
        option::of(header),
        option::of("[a-z-]{1,20}".prop_filter("stands for another", |name| name != "cookie")),
        vec(rule, 0..=limit::ABORT_RULES),
        percent().prop_filter("above 0", |share| share.basis_points() > 0),
    )
        .prop_map(|(shape, (every, warm, deadline), approve, header, sticky, abort_if, surge)| Release {
            every,
            warm,
            deadline,
            approve,
            header,
            sticky,
            abort_if,
            surge,
            ..Release::new(shape).unwrap()
        })
}

fn env() -> impl Strategy<Value = BTreeMap<String, Scalar>> {
    let text = any::<String>().prop_map(|text| Scalar(text.replace('\0', "")));
    // Texts that look like something else.
    let looks = select(vec![
        "",
        "~",
        "null",
        "true",
        "1.10",
        "0x10",
        "1e3",
        "no",
        "a: b",
        "# a",
        "- a",
        "*a",
        "&a",
        "!a",
        "\\ud83d\\ude00",
    ]);
    btree_map("E_[a-zA-Z0-9_]{0,10}", prop_oneof![text, looks.prop_map(Scalar::from)], 0..4)
}

fn limits() -> impl Strategy<Value = Limits> {
    let memory = prop_oneof![1u64.., (1u64..1_000).prop_map(|mib| mib << 20)];
    (option::of((1u32..).prop_map(|millis| CpuQuantity { millis })), option::of(memory.prop_map(ByteSize)))
        .prop_map(|(cpu, memory)| Limits { cpu, memory })
}

fn volumes() -> impl Strategy<Value = BTreeMap<VolumeName, VolumeSpec>> {
    let volume = (1u64.., option::of("/[a-z/]{0,20}"))
        .prop_map(|(size, path)| VolumeSpec { size: ByteSize(size), path });
    prop_oneof![
        2 => Just(BTreeMap::new()),
        1 => btree_map("[a-z]{1,10}".prop_map(|name| VolumeName::new(name).unwrap()), volume, 1..3)
    ]
}

prop_compose! {
    fn service(at: usize)(
        port in option::of(1u16..),
        volumes in volumes(),
    )(
        (run, image, build) in prop_oneof![
            command().prop_map(|run| (Some(run), None, None)),
            ("[!-~]{1,30}", option::of("[ -~]{1,30}")).prop_map(|(image, build)| (None, Some(image), build)),
        ],
        tcp in any::<bool>(),
        replicas in 0..=limit::REPLICAS,
        needs in btree_set(0..at.max(1), 0..=at.min(3)),
        probes in (option::of(probe(port.is_some())), option::of(probe(port.is_some()))),
        env in env(),
        secrets in btree_set("S_[A-Z0-9_]{0,10}", 0..3),
        limits in limits(),
        domains in btree_set("[a-z]{1,10}\\.[a-z]{1,5}(/[a-z]{1,5})?", 0..3),
        before_release in option::of(command()),
        release in option::of(release(!volumes.is_empty())),
        grace in duration(0, 3_600_000),
        port in Just(port),
        volumes in Just(volumes),
    ) -> ServiceSpec {
        let task = port.is_none() && release.is_none() && tcp;
        let mut spec = ServiceSpec::image("");
        (spec.run, spec.image, spec.build) = (run, image, build);
        if task { spec.kind = Kind::Task; }
        if port.is_some() && !tcp {
            // A host of its own, since a domain belongs to one service.
            spec.domain = domains.iter().map(|domain| format!("s{at}.{domain}").parse().unwrap()).collect();
        }
        spec.protocol = if tcp { Protocol::Tcp } else { Protocol::Http };
        spec.needs = needs.into_iter().filter(|need| *need < at).map(name).collect();
        (spec.port, spec.replicas, spec.env, spec.limits) = (port, replicas, env, limits);
        spec.secrets = secrets.into_iter().map(|secret| SecretName::new(secret).unwrap()).collect();
        (spec.ready, spec.live) = probes;
        (spec.volumes, spec.before_release, spec.release, spec.grace) = (volumes, before_release, release, grace);
        spec
    }
}

fn name(at: usize) -> ServiceName {
    ServiceName::new(format!("service-{at}")).unwrap()
}

fn overlay() -> impl Strategy<Value = ServiceOverlay> {
    (option::of(0..=limit::REPLICAS), env(), option::of(limits())).prop_map(|(replicas, env, limits)| {
        ServiceOverlay { replicas, env, limits, domain: None, release: None }
    })
}

fn app() -> impl Strategy<Value = AppSpec> {
    let services = (1usize..5).prop_flat_map(|count| (0..count).map(service).collect::<Vec<_>>());
    let environments = btree_map("[a-z]{1,10}", btree_map(0usize..5, overlay(), 0..3), 0..3);
    ("[a-z]([a-z0-9-]{0,20}[a-z0-9])?", services, environments).prop_map(|(app, services, environments)| {
        let mut spec = AppSpec::new(app).unwrap();
        let count = services.len();
        spec.services = services.into_iter().enumerate().map(|(at, service)| (name(at), service)).collect();
        for (environment, overlays) in environments {
            let known =
                overlays.into_iter().filter(|(at, _)| *at < count).map(|(at, overlay)| (name(at), overlay));
            let overlay = EnvironmentOverlay { services: known.collect() };
            spec.environments.insert(EnvironmentName::new(environment).unwrap(), overlay);
        }
        spec
    })
}

/// Reads text that is most likely wrong; checks what is said about it.
fn read_wrong(text: &[u8]) {
    let began = Instant::now();
    if let Err(error) = AppFile::parse("paas.yaml", text) {
        let findings = AppFileError::of(&error).unwrap();
        let lines = String::from_utf8_lossy(text).replace("\r\n", "\n").split(['\n', '\r']).count();
        assert!((1..=limit::APP_FILE_FINDINGS).contains(&findings.diagnostics().len()));
        for finding in findings.diagnostics() {
            assert!((1..=lines).contains(&finding.line), "{finding:?}");
            assert!(finding.column >= 1 && finding.message.len() < 4_000, "{finding:?}");
        }
        assert!(!error.to_string().chars().any(|c| c.is_control() && c != '\n'), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{} bytes took {:?}", text.len(), began.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_as_json_is_read_as_it_was(app in app()) {
        app.validate().unwrap();
        let json = serde_json::to_string(&app).unwrap();
        prop_assert_eq!(AppFile::parse("app.json", &json).map_err(|error| error.to_string()), Ok(app.clone()));
        // Indented with tabs; a text holds no line break that is not escaped.
        let pretty = serde_json::to_string_pretty(&app).unwrap();
        let pretty: String = pretty.lines().fold(String::new(), |text, line| {
            let bare = line.trim_start_matches(' ');
            text + &"\t".repeat((line.len() - bare.len()) / 2) + bare + "\n"
        });
        prop_assert_eq!(AppFile::parse("app.json", &pretty).map_err(|error| error.to_string()), Ok(app.clone()));
        // As serialisers write it that keep to ASCII.
        let ascii = json.chars().fold(String::new(), |mut ascii, c| {
            if c.is_ascii() {
                ascii.push(c);
            } else {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(ascii, "\\u{unit:04x}").unwrap());
            }
            ascii
        });
        prop_assert_eq!(AppFile::parse("app.json", &ascii).map_err(|error| error.to_string()), Ok(app));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
        read_wrong(&bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        read_wrong(text.as_bytes());
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(parts in vec(select(PARTS.to_vec()), 0..60)) {
        read_wrong(parts.concat().as_bytes());
    }
}

const PARTS: [&str; 40] = [
    "app",
    "services",
    "web",
    "run",
    ": ",
    ":",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "\\",
    "|\n",
    ">-\n",
    "&a ",
    "*a",
    "!t ",
    "<<",
    "?",
    " ",
    "\t",
    "#",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "1",
    "null",
    "~",
    "ä",
    "\u{feff}",
    "\r",
    "\\ud83d\\ude00",
    "$",
    "\u{202e}",
];

const SHOP: &str = include_str!("../../../../examples/shop/paas.yaml");

/// A small generator of our own, so that a failure's number is enough to see it again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides.max(1)
    }
}

#[test]
fn twenty_thousand_mutations_of_the_shop_end_in_an_app_or_in_findings_within_the_file() {
    AppFile::parse("paas.yaml", SHOP).unwrap();
    let lines: Vec<&str> = SHOP.split_inclusive('\n').collect();
    for seed in 1..=20_000u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut text = SHOP.as_bytes().to_vec();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(text.len());
            match dice.roll(6) {
                0 => text[at] = u8::try_from(dice.roll(256)).unwrap(),
                1 => drop(text.remove(at)),
                2 => drop(text.splice(at..at, PARTS[dice.roll(PARTS.len())].bytes())),
                3 => text.truncate(at.max(1)),
                4 => drop(text.splice(at..at, lines[dice.roll(lines.len())].bytes())),
                _ => drop(text.drain(at..(at + 1 + dice.roll(40)).min(text.len()))),
            }
            if text.is_empty() {
                text.push(b'x');
            }
        }
        let read = std::panic::catch_unwind(|| read_wrong(&text));
        assert!(read.is_ok(), "seed {seed}:\n{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn deep_and_huge_input_is_bounded() {
    let most = limit::APP_FILE;
    for part in [
        "[", "{", "- ", "? ", "{a: ", "[a, ", "\"", "'", "a: ", "&a ", "!a ", "*a ", "\n", "\t", "#", "a\n",
        "{\"a\":", "\\", "🙂", "|\n", "x: {}\n", "[],",
    ] {
        read_wrong(part.repeat(most / part.len()).as_bytes());
        read_wrong(format!("app: {}", part.repeat((most - 5) / part.len())).as_bytes());
    }
    let many: String = (0..9_000).fold("app: x\nservices:\n".to_owned(), |mut text, at| {
        writeln!(text, " a{at}: {{x}}").unwrap();
        text
    });
    read_wrong(many.as_bytes());
    // As much work for the checks as fits into a file.
    let room = most - 2_000;
    let chain: String = (0..3_000).fold("app: x\nservices:\n".to_owned(), |mut text, at| {
        writeln!(text, " a{at}: {{run: x, needs: [a{}]}}", at + 1).unwrap();
        text
    });
    let items =
        |part: &str| (0..room / (part.len() + 5)).map(|at| format!("{part}{at},")).collect::<String>();
    let services = |text: &str| format!("app: x\nservices: {{ {text} }}\n");
    for text in [
        chain,
        services(&format!("a: {{ run: x, needs: [{}] }}", items("service"))),
        services(
            &(0..99)
                .map(|at| format!("a{at}: {{ run: x, needs: [{}] }},", &items("b")[..1_200]))
                .collect::<String>(),
        ),
        services(&format!("a: {{ run: '{}' }}", items("$A").replace(',', ""))),
        services(&format!(
            "a: {{ run: '{}', env: {{ {} }} }}",
            &items("$A_").replace(',', "")[..60_000],
            &items("B_")[..50_000]
        )),
        format!(
            "{}environments: {{ {} }}",
            services("a: { run: x }"),
            items("e").replace(',', ": {services: {b: {}}},")
        ),
        format!(
            "{}environments: {{ {} }}",
            services(&format!("a: {{ run: x, env: {{ {} }} }}", &items("1")[..60_000])),
            (0..20)
                .map(|at| format!(
                    "e{at}: {{ services: {{ a: {{ env: {{ {} }} }} }} }},",
                    &items("2")[..2_500]
                ))
                .collect::<String>()
        ),
        format!("{{\"a\": [{}]}}", "\"\\ud83d\\ude00\",".repeat(room / 15)),
    ] {
        read_wrong(&text.as_bytes()[..text.len().min(limit::APP_FILE)]);
    }
    let error = AppFile::parse("x", "#".repeat(most + 1)).unwrap_err();
    assert!(error.to_string().contains("larger than 128 KiB"), "{error}");
    let error = AppFile::parse("x", format!("app: [{}]", "1,".repeat(limit::APP_FILE_NODES))).unwrap_err();
    assert!(error.to_string().contains("more than 50000 values"), "{error}");
    // The bound falls within a character.
    AppFile::parse("x", format!("{}🙂", "#".repeat(most - 1))).unwrap_err();
}

#[test]
fn variables_keep_their_source_text() {
    let text = "
app: a
services:
  s:
    run: [x, 1.10, 0x1F, on, '']
    env:
      A: 1.10
      B: 0x10
      C: 1e3
      D: no
      E: 'true'
      F: 007
      G: 2024-01-01
      H: |
        two
        lines
      I: \"\"
      J: 'null'
      K: .inf
      L: +1
";
    let app = AppFile::parse("x", text).unwrap();
    let values: Vec<&str> = app.services["s"].env.values().map(|value| value.0.as_str()).collect();
    assert_eq!(
        values,
        ["1.10", "0x10", "1e3", "no", "true", "007", "2024-01-01", "two\nlines\n", "", "null", ".inf", "+1"]
    );
    assert_eq!(app.services["s"].run.as_ref().unwrap().arguments(), ["x", "1.10", "0x1F", "on", ""]);
}

#[test]
fn numbers_are_those_of_yaml_1_2() {
    let port = |text: &str| {
        let text = format!("app: a\nservices:\n  s: {{ run: x, port: {text} }}\n");
        AppFile::parse("x", text).ok().and_then(|app| app.services["s"].port)
    };
    assert_eq!(port("08080"), Some(8080));
    assert_eq!(port("0x1F90"), Some(8080));
    assert_eq!(port("0o17620"), Some(8080));
    assert_eq!(port("+8080"), Some(8080));
    assert_eq!(port("null"), None);
    for wrong in ["8_080", "'8080'", "8080.0", "8e3", "0", "65536", "-1", "8080:80", "yes", "[8080]", "''"] {
        assert_eq!(port(wrong), None, "{wrong}");
    }
}

#[test]
fn whatever_is_not_utf8_is_refused_where_it_is() {
    let error = AppFile::parse("x", b"app: a\nservices: \xff\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "x:2:11: the file is not UTF-8 from here on\n  2 | services: \u{fffd}\n    |           ^"
    );
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_read() {
    let app = AppFile::parse("x", "\u{feff}app: a\r\nservices:\r\n  s: { run: x }\r\n").unwrap();
    assert_eq!(app.app.as_str(), "a");
    let error = AppFile::parse("x", "\u{feff}app: A\r\nservices:\r\n  s: { ran: x }\r\n").unwrap_err();
    let places: Vec<_> =
        AppFileError::of(&error).unwrap().diagnostics().iter().map(|d| (d.line, d.column)).collect();
    assert_eq!(places, [(1, 6), (3, 8)]);
}

#[test]
fn relative_programs_are_taken_from_the_files_folder() {
    let program = |program: &str, folder: &str| {
        let mut command = Command::new([program, "./argument"]).unwrap();
        anchor(&mut command, Path::new(folder)).unwrap();
        assert_eq!(command.arguments()[1], "./argument");
        command.arguments()[0].clone()
    };
    assert_eq!(program("./shop", "/srv/app"), "/srv/app/shop");
    assert_eq!(program("././/shop", "/srv/app"), "/srv/app/shop");
    assert_eq!(program("../bin/shop", "/srv/app"), "/srv/bin/shop");
    assert_eq!(program("./../../shop", "/srv/app"), "/shop");
    assert_eq!(program("./shop", "/"), "/shop");
    assert_eq!(program("shop", "/srv/app"), "shop");
    assert_eq!(program("/bin/shop", "/srv/app"), "/bin/shop");
    assert_eq!(program("./$NAME", "/srv/a$b"), "/srv/a$$b/$NAME");
}

//! The app file: what application developers write, read with errors that say where and what instead.

mod report;
mod surrogate;
mod syntax;
mod tree;
mod value;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

pub use report::{AppFileError, Diagnostic};

use report::{Report, Spot};
use tree::{Content, NodeId, Tree};
use value::{Fault, Value, What};
use words::{Words, in_a_sentence};

use super::app::{AppSpec, Finding};
use super::command::Command;
use super::limit;
use super::name::excerpt;
use super::probe::Check;
use crate::{Error, Result};

/// Reads app files: YAML, or JSON, which is read as the part of YAML that it is.
///
/// ```
/// use paas_core::model::{AppFile, AppFileError};
///
/// let app = AppFile::parse("paas.yaml", "app: shop\nservices:\n  web: { run: ./web, port: 8080 }\n")?;
/// assert_eq!(app.services["web"].port, Some(8080));
///
/// let error = AppFile::parse("paas.yaml", "app: shop\nservices:\n  web: { run: ./web, prot: 8080 }\n").unwrap_err();
/// assert_eq!(error.to_string(), "\
/// paas.yaml:3:22: unknown key `prot` in a service; did you mean `port`?
///   3 |   web: { run: ./web, prot: 8080 }
///     |                      ^^^^");
/// let findings = AppFileError::of(&error).expect("the findings are the error's source");
/// assert_eq!(findings.diagnostics()[0].nearest.as_deref(), Some("port"));
/// # Ok::<(), paas_core::Error>(())
/// ```
///
/// Of YAML it takes what an app needs: one document of maps, lists and scalars. Anchors, aliases, tags, merge keys and a
/// key given twice are refused. Scalars follow the core schema of YAML 1.2 (`no`, `on` and `yes` are texts), and the
/// type that is read decides, not the look of the text: the environment variable `VERSION: 1.10` is `1.10`. A text with
/// `: `, `#` or a leading `*`, `&`, `!`, `@` needs quotes.
///
/// The bounds of a file are in [`limit`]: [`limit::APP_FILE`], [`limit::APP_FILE_DEPTH`], [`limit::APP_FILE_NODES`].
#[derive(Debug)]
pub enum AppFile {}

impl AppFile {
    /// Reads an app from text; `name` is what errors call it. Programs stay as they are written.
    ///
    /// # Errors
    /// `Invalid` with every finding (up to [`limit::APP_FILE_FINDINGS`]): each has the place, what is wrong, what was
    /// expected, and the line of the file. They are in its source as data, see [`AppFileError::of`].
    pub fn parse(name: &str, text: impl AsRef<[u8]>) -> Result<AppSpec> {
        let bytes = text.as_ref();
        let (text, mut report) = match std::str::from_utf8(&bytes[..bytes.len().min(limit::APP_FILE + 1)]) {
            Ok(text) => (text, Report::new(name, text)),
            Err(error) if bytes.len() > limit::APP_FILE => {
                let text = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
                (text, Report::new(name, text))
            }
            Err(error) => {
                let text = String::from_utf8_lossy(bytes);
                let mut report = Report::new(name, &text);
                report.add(spot_at(&text, error.valid_up_to()), &[], "the file is not UTF-8 from here on");
                return Err(report.into_error());
            }
        };
        if bytes.len() > limit::APP_FILE {
            let message = format!("the file is larger than {} KiB", limit::APP_FILE / 1024);
            report.add(Spot { line: 1, column: 1, width: 1 }, &[], message);
            return Err(report.into_error());
        }
        if let Some(at) = text.find(|c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r')) {
            let message = "a control character; in a text within double quotes it can be written as `\\x1b`";
            report.add(spot_at(text, at), &[], message);
            return Err(report.into_error());
        }
        match tree::read(text, &mut report).and_then(|mut tree| typed(&mut tree, &mut report)) {
            Some(app) if report.is_empty() => Ok(app),
            _ => Err(report.into_error()),
        }
    }

    /// Reads an app from a file. Programs of `run`, of `before_release` and of probes that begin with `./` or `../` are
    /// taken as relative to the file's folder and made absolute; their arguments stay as they are.
    ///
    /// # Errors
    /// Those of [`AppFile::parse`]; `NotFound` where there is no such file, `Unavailable` where it cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<AppSpec> {
        let path = path.as_ref();
        let failed = |error: std::io::Error| {
            let message = "cannot read the app file";
            let path = excerpt(&path.to_string_lossy());
            match error.kind() {
                std::io::ErrorKind::NotFound => Error::not_found("there is no such app file"),
                _ => Error::unavailable(message).with("reason", error.kind()).permanent(),
            }
            .with("path", path)
            .with_source(error)
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(limit::APP_FILE).unwrap_or(u64::MAX) + 1;
        std::fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(failed)?;
        let mut app = Self::parse(&path.to_string_lossy(), &bytes)?;
        let file = std::path::absolute(path).map_err(failed)?;
        for service in app.services.values_mut() {
            let probes = [&mut service.ready, &mut service.live].into_iter().flatten();
            let probes = probes.filter_map(|probe| match &mut probe.check {
                Check::Command(command) => Some(command),
                _ => None,
            });
            let commands = [&mut service.run, &mut service.before_release].into_iter().flatten();
            for command in commands.chain(probes) {
                anchor(command, file.parent().unwrap_or(Path::new("/")))?;
            }
        }
        Ok(app)
    }
}

/// Makes a relative program absolute.
fn anchor(command: &mut Command, folder: &Path) -> Result<()> {
    let program = &command.arguments()[0];
    if !program.starts_with("./") && !program.starts_with("../") {
        return Ok(());
    }
    let mut base = folder;
    let mut rest = program.as_str();
    loop {
        if let Some(below) = rest.strip_prefix("./") {
            rest = below.trim_start_matches('/');
        } else if let (Some(beside), Some(parent)) = (rest.strip_prefix("../"), base.parent()) {
            (base, rest) = (parent, beside.trim_start_matches('/'));
        } else {
            break;
        }
    }
    let base = base.to_str().ok_or_else(|| {
        Error::invalid("the folder of the app file has a name that is not UTF-8")
            .with("folder", excerpt(&folder.to_string_lossy()))
    })?;
    // A dollar sign in the folder's name is no variable.
    let program = format!("{}/{rest}", base.trim_end_matches('/').replace('$', "$$"));
    let arguments = std::iter::once(program).chain(command.arguments()[1..].iter().cloned());
    *command = Command::new(arguments)?;
    Ok(())
}

/// The place of a byte of the text.
fn spot_at(text: &str, at: usize) -> Spot {
    let before = text.get(..at).unwrap_or(text);
    let line = 1 + before.matches('\n').count() + before.replace("\r\n", "").matches('\r').count();
    let start = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
    Spot { line, column: 1 + before[start..].trim_start_matches('\u{feff}').chars().count(), width: 1 }
}

/// Reads the tree as an app. What does not fit is reported, taken out, and the rest read again, so that every finding
/// of its own is reported at once.
fn typed(tree: &mut Tree, report: &mut Report) -> Option<AppSpec> {
    let app = loop {
        match Value::root(tree).read::<AppSpec>() {
            Ok(app) => break app,
            Err(_) if !report.has_room() => {
                report.cut();
                return None;
            }
            Err(fault) => take_out(tree, fault, report)?,
        }
    };
    let damage = Damage::of(tree);
    for finding in app.findings().into_iter().filter(|finding| !damage.explains(finding)) {
        if !report.has_room() {
            report.cut();
            break;
        }
        let node = tree.deepest(&finding.path);
        // A finding that names the key it is about points at the key.
        let names_key =
            finding.error.contexts().any(|(_, value)| finding.path.last().is_some_and(|last| last == value));
        let spot = tree.key_spot(node).filter(|_| names_key).unwrap_or_else(|| tree.spot(node));
        let near = finding.error.context("did you mean").map(str::to_owned);
        if let Some(diagnostic) = report.add(spot, &finding.path, in_a_sentence(&finding.error)) {
            diagnostic.nearest = near;
        }
    }
    Some(app)
}

/// Reports a fault and takes its node out. `None` where that leaves nothing to read.
fn take_out(tree: &mut Tree, fault: Fault, report: &mut Report) -> Option<()> {
    let node = fault.node.unwrap_or(Tree::ROOT);
    let consequence = match fault.what {
        What::Missing(_) => tree.nodes[node].incomplete,
        What::Other(_) => tree.nodes[node].hurt,
        _ => false,
    };
    if !consequence {
        let mut path = tree.path(node);
        if tree.is_key(node) {
            path.push(tree.text(node).to_owned());
        }
        let words = Words::of(tree, node, fault.what);
        if let Some(diagnostic) = report.add(tree.spot(node), &path, words.message) {
            diagnostic.expected = words.expected;
            diagnostic.nearest = words.nearest;
        }
    }
    // A key that does not fit goes with its value.
    let entry = tree.nodes[node].parent.and_then(|parent| match &tree.nodes[parent].content {
        Content::Map(entries) => entries.iter().find(|(key, _)| *key == node).map(|(_, value)| *value),
        _ => None,
    });
    tree.drop_node(entry.unwrap_or(node)).then_some(())
}

/// What was taken out, which some of the model's findings may only follow from.
#[derive(Default)]
struct Damage {
    services: BTreeSet<String>,
    /// A whole service is gone, so a need of it is none.
    whole: bool,
}

impl Damage {
    fn of(tree: &Tree) -> Self {
        let mut damage = Self::default();
        let hurt = |id: &NodeId| tree.nodes[*id].dropped || tree.nodes[*id].incomplete;
        for id in (0..tree.nodes.len()).filter(hurt) {
            match &tree.path(id)[..] {
                [first] if first == "services" => damage.whole = true,
                [first, name, ..] if first == "services" => drop(damage.services.insert(name.clone())),
                [first, _, second, name, ..] if first == "environments" && second == "services" => {
                    damage.services.insert(name.clone());
                }
                _ => {}
            }
        }
        damage
    }

    /// Whether the finding is that something is not there which may have been.
    fn explains(&self, finding: &Finding) -> bool {
        let Finding { path, error } = finding;
        let any = self.whole || !self.services.is_empty();
        if error.context("variable").is_some() || error.context("service").is_some() && self.whole {
            return any;
        }
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let within = match path[..] {
            ["environments", _, ref within @ ..] => within,
            ref within => within,
        };
        match within {
            ["services"] => self.whole,
            // Without a source, and without the port that these need.
            ["services", name] | ["services", name, "domain" | "ready" | "live"] => {
                self.services.contains(*name)
            }
            _ => false,
        }
    }
}

//! A platform with the sample app `shop` deployed on it: on this machine, composed from the embedded backends, or on a
//! Kubernetes cluster. Where they differ is `backends.rs`.
//!
//! `cargo run --release --example platform` serves it until Ctrl-C; `-- --tour` shows what it can do, under load;
//! `-- --help` says the rest. This one program is the platform, its keeper, its edge and, under the name `shop`, the
//! sample app.

mod backends;
mod bundle;
mod child;
mod console;
mod control;
mod http;
mod kubectl;
mod load;
mod oncall;
mod options;
mod report;
mod routes;
mod serve;
mod tour;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use options::{Options, USAGE};

fn main() -> ExitCode {
    if let Some(code) = paas::local::run_if_asked() {
        return code;
    }
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == "shop") {
        return shop::main(arguments);
    }
    match Options::parse(arguments) {
        Err(wrong) => {
            let _ = writeln!(std::io::stderr(), "error: {wrong}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Ok(options) if options.help => {
            let _ = write!(std::io::stdout(), "{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(options) if options.tour => tour::main(options.cluster),
        Ok(options) => paas::local::main(|| serve::run(options)),
    }
}

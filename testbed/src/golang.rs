//! Programs built from Go modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{output, run};
use crate::step::step;
use crate::{Result, cache};

/// Programs of one module.
pub(crate) struct Module<'a> {
    pub(crate) path: &'a str,
    pub(crate) version: &'a str,
    /// Import paths of the programs, and the names of their files.
    pub(crate) programs: &'a [(&'a str, &'a str)],
    /// Files of the module that this one is built in, where a program is our own choice of the module's packages: its
    /// import path is then one in `build`, the name of that module.
    pub(crate) sources: &'a [(&'a str, &'a str)],
    /// Added to the linker's flags.
    pub(crate) linked: &'a str,
    /// The version of the modules that its own go.mod replaces by folders of its own.
    pub(crate) staging: Option<&'a str>,
}

impl Module<'_> {
    /// Builds the programs once; the folder that holds them.
    pub(crate) fn build(&self) -> Result<PathBuf> {
        let name = self.path.rsplit('/').next().unwrap_or(self.path);
        let mut stamp = format!("{} {} {:?} {}", self.path, self.version, self.programs, self.linked);
        self.sources.iter().for_each(|(_, text)| stamp += text);
        let built = cache::built(&format!("{name}-{}", self.version), &stamp, |folder| {
            step(&format!("resolve {} {}", self.path, self.version), || self.resolve(folder))?;
            for (import, program) in self.programs {
                step(&format!("build {program}"), || self.compile(folder, import, program))?;
            }
            Ok(())
        })?;
        Ok(built.join("bin"))
    }

    fn go(folder: &Path) -> Command {
        let mut go = Command::new("go");
        go.current_dir(folder).env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", "0");
        go
    }

    /// A module of our own that requires this one, with the replacements that only count in a main module.
    fn resolve(&self, folder: &Path) -> Result<()> {
        let mut manifest = format!("module build\n\ngo 1.24.0\n\nrequire {} {}\n", self.path, self.version);
        fs::write(folder.join("go.mod"), &manifest)?;
        if let Some(staging) = self.staging {
            let own = fs::read_to_string(download(self.path, self.version, "GoMod")?)?;
            let replaced = own.lines().filter_map(|line| line.trim().split_once(" => ./staging/"));
            replaced.for_each(|(module, _)| manifest += &format!("replace {module} => {module} {staging}\n"));
        }
        fs::write(folder.join("go.mod"), manifest)?;
        for (name, text) in self.sources {
            let file = folder.join(name);
            file.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(file, text)?;
        }
        let imports = self
            .programs
            .iter()
            .fold(String::new(), |all, (import, _)| all + &format!("import _ \"{import}\"\n"));
        fs::write(folder.join("tools.go"), format!("//go:build tools\n\npackage tools\n\n{imports}"))?;
        run(Self::go(folder).args(["mod", "tidy"]))
    }

    fn compile(&self, folder: &Path, import: &str, program: &str) -> Result<()> {
        let flags = format!("-s -w {}", self.linked);
        let output = folder.join("bin").join(program);
        run(Self::go(folder).args(["build", "-trimpath", "-ldflags", &flags, "-o"]).arg(output).arg(import))
    }
}

/// Copies a folder of a module once; where the copy is.
pub(crate) fn folder_of(path: &str, version: &str, inside: &str) -> Result<PathBuf> {
    let name = path.rsplit('/').next().unwrap_or(path);
    cache::built(&format!("{name}-{version}"), &format!("{path} {version} {inside}"), |folder| {
        let from = Path::new(&download(path, version, "Dir")?).join(inside);
        for file in fs::read_dir(&from).map_err(|error| format!("{}: {error}", from.display()))? {
            let file = file?;
            fs::copy(file.path(), folder.join(file.file_name()))?;
        }
        Ok(())
    })
}

/// Downloads a module, and tells one of the places where it now is.
fn download(path: &str, version: &str, place: &str) -> Result<String> {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", &format!("{path}@{version}")]);
    let output = output(go.stdin(Stdio::null()).stderr(Stdio::piped()))?;
    let found: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("go mod download: {error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let place = found[place].as_str();
    Ok(place.ok_or_else(|| format!("go mod download {path}: {}", found["Error"]))?.to_owned())
}

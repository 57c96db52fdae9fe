//! Archives of images of one program, in the form that `docker save` writes and containerd reads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Result;

/// The file of the layer.
const LAYER: &str = "layer.tar";

/// An image of an archive's program, and how it is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    /// Its name and tag.
    pub(crate) name: &'static str,
    /// The program's arguments.
    pub(crate) arguments: &'static [&'static str],
    /// Variables, as `NAME=value`.
    pub(crate) env: &'static [&'static str],
}

/// Writes an archive of images that share one layer: the program, in the root folder, and what it needs of this machine,
/// where that is here.
pub(crate) fn archive(to: &Path, program: &Path, needs: &[PathBuf], images: &[Image]) -> Result<()> {
    let name = program.file_name().ok_or("an image needs a program")?.to_string_lossy();
    let read = |file: &Path| fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, &name, 0o755, &read(program)?)?;
    for file in needs {
        append(&mut layer, file.to_string_lossy().trim_start_matches('/'), 0o755, &read(file)?)?;
    }
    let layer = layer.into_inner()?;
    let mut archive = tar::Builder::new(File::create(to)?);
    append(&mut archive, LAYER, 0o644, &layer)?;
    let mut manifest = Vec::new();
    for image in images {
        let config = serde_json::to_vec(&config(image, &format!("/{name}"), &digest(&layer)))?;
        let file = format!("{}.json", digest(&config));
        append(&mut archive, &file, 0o644, &config)?;
        manifest.push(json!({ "Config": file, "RepoTags": [image.name], "Layers": [LAYER] }));
    }
    append(&mut archive, "manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
    archive.into_inner()?.sync_all()?;
    Ok(())
}

/// Runs as nobody in particular: a cluster that is careful starts no image of root's.
fn config(image: &Image, program: &str, layer: &str) -> Value {
    let entrypoint: Vec<&str> = std::iter::once(program).chain(image.arguments.iter().copied()).collect();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": entrypoint, "Env": image.env, "User": "65532:65532", "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created_by": "testbed" }],
    })
}

fn append(
    archive: &mut tar::Builder<impl std::io::Write>,
    name: &str,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, name, content)?;
    Ok(())
}

/// The libraries that a program loads, and who loads them, as this machine finds them.
pub(crate) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    let output = ldd.arg(program).env("LC_ALL", "C").stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("ldd {}: {error}", program.display()).into());
    }
    loaded(&String::from_utf8_lossy(&output.stdout))
}

/// A line is `NAME => FILE (ADDRESS)`, or `FILE (ADDRESS)`; what has no file is the kernel's.
fn loaded(lines: &str) -> Result<Vec<PathBuf>> {
    if let Some(missing) = lines.lines().find(|line| line.ends_with("not found")) {
        return Err(format!("a library is missing: {}", missing.trim()).into());
    }
    let file = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(lines.lines().filter_map(file).collect())
}

/// The digest of some bytes, in hexadecimal.
pub(crate) fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn files(archive: impl Read) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let (name, mode) = (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap());
            (name, (mode, content))
        });
        entries.collect()
    }

    #[test]
    fn an_archive_names_its_parts_by_their_digests() {
        let folder = std::env::temp_dir().join(format!("testbed-image-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (program, archived) = (folder.join("it"), folder.join("image.tar"));
        fs::write(&program, b"a program").unwrap();
        let image = |name, arguments, env| Image { name, arguments, env };
        let images = [image("it-serves:1", &["serve"], &["BIND=0.0.0.0"]), image("it:1", &[], &[])];
        let library = folder.join("libit.so");
        fs::write(&library, b"a library").unwrap();
        archive(&archived, &program, std::slice::from_ref(&library), &images).unwrap();
        let found = files(File::open(&archived).unwrap());
        fs::remove_dir_all(&folder).unwrap();
        let manifest: Value = serde_json::from_slice(&found["manifest.json"].1).unwrap();
        let layer = &found["layer.tar"].1;
        let layered = files(layer.as_slice());
        assert_eq!(layered["it"], (0o755, b"a program".to_vec()));
        let library = library.strip_prefix("/").unwrap().display().to_string();
        assert_eq!(layered[&library], (0o755, b"a library".to_vec()), "it is where it was");
        for (number, (name, entrypoint, env)) in [
            ("it-serves:1", json!(["/it", "serve"]), json!(["BIND=0.0.0.0"])),
            ("it:1", json!(["/it"]), json!([])),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(manifest[number]["RepoTags"], json!([name]));
            let config = manifest[number]["Config"].as_str().unwrap();
            assert_eq!(config, format!("{}.json", digest(&found[config].1)));
            let config: Value = serde_json::from_slice(&found[config].1).unwrap();
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(layer)));
            assert_eq!((&config["config"]["Entrypoint"], &config["config"]["Env"]), (&entrypoint, &env));
        }
    }

    #[test]
    fn libraries_are_where_this_machine_finds_them() {
        let told = "\tlinux-vdso.so.1 (0x00007fca)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007fca)\n\t/lib64/ld.so.2 (0x00007fca)\n";
        let files = ["/lib/libc.so.6", "/lib64/ld.so.2"].map(PathBuf::from);
        assert_eq!(loaded(told).unwrap(), files);
        let error = loaded("\tlibmoon.so => not found\n").unwrap_err().to_string();
        assert!(error.contains("libmoon.so"), "{error}");
    }
}

//! Image archives of one static program, in the form that `docker save` writes and containerd reads.

use std::fs::{self, File};
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Result;

/// Writes an archive of an image whose only layer holds these programs, and that runs the first one.
pub(crate) fn archive(to: &Path, name: &str, programs: &[(&Path, &str)]) -> Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    for (program, inside) in programs {
        let content = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
        append(&mut layer, inside.trim_start_matches('/'), 0o755, &content)?;
    }
    let layer = layer.into_inner()?;
    let entrypoint = programs.first().map(|(_, inside)| *inside).ok_or("an image needs a program")?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": [entrypoint], "User": "65532:65532" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
        "history": [{ "created_by": "testbed" }],
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", digest(&config));
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"] }]);
    let mut image = tar::Builder::new(File::create(to)?);
    append(&mut image, &config_name, 0o644, &config)?;
    append(&mut image, "layer.tar", 0o644, &layer)?;
    append(&mut image, "manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
    image.into_inner()?.sync_all()?;
    Ok(())
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
        let (program, archived) = (folder.join("program"), folder.join("image.tar"));
        fs::write(&program, b"a program").unwrap();
        archive(&archived, "testbed.local/it:1", &[(&program, "/bin/it")]).unwrap();
        let image = files(File::open(&archived).unwrap());
        fs::remove_dir_all(&folder).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&image["manifest.json"].1).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "testbed.local/it:1");
        let config = manifest[0]["Config"].as_str().unwrap();
        assert_eq!(config, format!("{}.json", digest(&image[config].1)));
        let config: serde_json::Value = serde_json::from_slice(&image[config].1).unwrap();
        let layer = &image["layer.tar"].1;
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(layer)));
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/it");
        assert_eq!(files(layer.as_slice())["bin/it"], (0o755, b"a program".to_vec()));
    }
}

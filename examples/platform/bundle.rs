//! The app that comes with the platform: the file of the shop, made ready for where it will run.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use paas::model::{AppFile, AppSpec};
use paas::{Error, Result};

use crate::options::Options;

/// The one app file, for a machine and for a cluster.
const APP_FILE: &str = include_str!("../shop/paas.yaml");

/// The bundled app.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) app: AppSpec,
    /// Whether it is another than the last time.
    pub(crate) is_new: bool,
}

impl Bundle {
    /// Makes it ready in the data directory.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let folder = options.data.join("bundle/shop");
        std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        let mut app = if options.cluster.is_some() {
            // Programs stay as they are written: they are relative to the image's own folder.
            AppFile::parse("paas.yaml", APP_FILE)?
        } else {
            on_machine(&folder)?
        };
        if let Some(cluster) = &options.cluster {
            let of_environment = std::env::var("PAAS_IMAGES").ok().filter(|own| !own.is_empty());
            let prefix = cluster.images.clone().or(of_environment);
            for image in app.services.values_mut().filter_map(|service| service.image.as_mut()) {
                if let Some(prefix) = &prefix {
                    *image = format!("{}/{image}", prefix.trim_end_matches('/'));
                }
            }
        }
        if let Some(name) = &options.domain {
            for service in app.services.values_mut().filter(|service| !service.domain.is_empty()) {
                service.domain = vec![name.parse()?];
            }
        }
        let is_new = remember(&folder.join("app.json"), &app)?;
        Ok(Self { app, is_new })
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |error| Error::unavailable("cannot write the bundled app").with("path", &path).with_source(error)
}

/// Writes the app's file, and its program beside it: this one under another name.
fn on_machine(folder: &Path) -> Result<AppSpec> {
    let (file, program) = (folder.join("paas.yaml"), folder.join("shop"));
    std::fs::write(&file, APP_FILE).map_err(at(&file))?;
    let own: PathBuf = std::env::current_exe().map_err(at(&program))?;
    if std::fs::read_link(&program).ok().as_deref() != Some(&*own) {
        // Renaming puts it in place at once: an instance that starts just now finds the old one or the new one.
        let draft = folder.join("shop.new");
        let _left_over = std::fs::remove_file(&draft);
        symlink(&own, &draft).and_then(|()| std::fs::rename(&draft, &program)).map_err(at(&program))?;
    }
    AppFile::read(&file)
}

/// Notes what the app is; tells whether that is news.
fn remember(note: &Path, app: &AppSpec) -> Result<bool> {
    let text = serde_json::to_vec(app)
        .map_err(|error| Error::internal("the app cannot be written as JSON").with_source(error))?;
    if std::fs::read(note).is_ok_and(|before| before == text) {
        return Ok(false);
    }
    std::fs::write(note, text).map_err(at(note))?;
    Ok(true)
}

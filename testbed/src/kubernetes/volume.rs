//! Volumes for the claims of suites: a pool that is made with the cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::inside::Cluster;
use crate::Result;

/// How many volumes there are.
const VOLUMES: u32 = 256;

const CLASS: &str = "pool";

impl Cluster {
    /// Each volume is a folder that any user may write to, for pods run as nobody in particular. They are used once: a cluster
    /// lives no longer than a run, and a provisioner would be one more program that has to be built and watched. (That of
    /// Rancher makes folders by running pods of an image that has a shell.)
    pub(super) fn volumes(&self) -> Result<()> {
        let mut objects = vec![class()];
        for number in 0..VOLUMES {
            let folder = self.file(&format!("volumes/{number}"));
            fs::create_dir_all(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
            objects.push(volume(number, &folder));
        }
        self.create("volumes", &objects)
    }
}

/// The class of a claim that names none.
fn class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

/// A volume of the pool.
fn volume(number: u32, folder: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": format!("pool-{number}") },
        "spec": {
            "storageClassName": CLASS,
            "capacity": { "storage": "10Gi" },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": { "path": folder, "type": "Directory" },
        },
    })
}

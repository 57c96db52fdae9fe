//! The JSON Schema of app files, made from the types, so that editors complete and check them.

use serde_json::Value;

use super::app::AppSpec;

/// Where the schema of the newest release is found.
const ID: &str = "https://raw.githubusercontent.com/paas-sdk/paas/main/docs/paas.schema.json";

impl AppSpec {
    /// The JSON Schema of an app file.
    ///
    /// An editor that speaks to a YAML language server uses it when the file begins with
    /// `# yaml-language-server: $schema=<where docs/paas.schema.json is>`.
    #[must_use]
    pub fn json_schema() -> Value {
        let mut schema = schemars::SchemaGenerator::default().into_root_schema_for::<Self>();
        schema.insert("$id".into(), ID.into());
        schema.insert("title".into(), "App file".into());
        schema.to_value()
    }
}

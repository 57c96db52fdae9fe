//! An app: services that are released, started and stopped together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::environment::EnvironmentOverlay;
use super::limit;
use super::log::LogRules;
use super::name::{AppName, EnvironmentName, ServiceName, excerpt};
use super::service::{Service, ServiceSpec};
use crate::{Error, Result};

/// Describes an app. A company implements it on its own types; [`AppSpec`] implements it for those from a file.
///
/// ```
/// use paas_core::model::{App, AppSpec, ServiceSpec};
///
/// struct Shop { version: String }
///
/// impl App for Shop {
///     fn describe(&self) -> paas_core::Result<AppSpec> {
///         let mut web = ServiceSpec::run(["./web"])?;
///         web.env.insert("VERSION".into(), self.version.as_str().into());
///         AppSpec::new("shop")?.with_service("web", &web)
///     }
/// }
///
/// assert_eq!(Shop { version: "1.4.0".into() }.describe()?.services.len(), 1);
/// # Ok::<(), paas_core::Error>(())
/// ```
pub trait App: Send + Sync {
    /// What should run. The same value gives the same description.
    ///
    /// # Errors
    /// `Invalid` where the values of the type make no app.
    fn describe(&self) -> Result<AppSpec>;
}

/// An app as data: what an app file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "App")]
#[non_exhaustive]
pub struct AppSpec {
    /// Its name.
    pub app: AppName,
    /// Its services by name.
    pub services: BTreeMap<ServiceName, ServiceSpec>,
    /// What becomes of the log lines of all its services.
    #[serde(default, skip_serializing_if = "LogRules::is_empty")]
    pub logs: LogRules,
    /// What differs in an environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<EnvironmentName, EnvironmentOverlay>,
}

/// Where in an app a finding is, and what it is.
#[derive(Debug)]
pub(crate) struct Finding {
    /// Keys and list positions from the root.
    pub(crate) path: Vec<String>,
    pub(crate) error: Error,
}

impl AppSpec {
    /// An app without services.
    ///
    /// # Errors
    /// `Invalid` where the name breaks its rules.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let app = AppName::new(name)?;
        let (services, environments) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { app, services, logs: LogRules::default(), environments })
    }

    /// Adds a service, or replaces the one of that name.
    ///
    /// # Errors
    /// `Invalid` where the name breaks its rules or the service cannot describe itself.
    pub fn with_service(mut self, name: impl AsRef<str>, service: &dyn Service) -> Result<Self> {
        self.services.insert(ServiceName::new(name)?, service.describe()?);
        Ok(self)
    }

    /// The app as it is in one environment: overlays applied, checked.
    ///
    /// # Errors
    /// `Invalid` with the first of [`AppSpec::validate`]'s findings.
    pub fn for_environment(&self, environment: &EnvironmentName) -> Result<Self> {
        self.validate()?;
        let resolved = self.overlaid(environment);
        resolved.validate()?;
        Ok(resolved)
    }

    fn overlaid(&self, environment: &EnvironmentName) -> Self {
        let mut resolved = Self { environments: BTreeMap::new(), ..self.clone() };
        if let Some(overlay) = self.environments.get(environment) {
            for (name, service) in &mut resolved.services {
                if let Some(overlay) = overlay.services.get(name) {
                    overlay.apply(service);
                }
            }
        }
        resolved
    }

    /// Checks everything that the types alone do not: bounds, references, cycles.
    ///
    /// # Errors
    /// `Invalid` with the first finding and its place.
    pub fn validate(&self) -> Result<()> {
        match self.findings().into_iter().next() {
            None => Ok(()),
            Some(Finding { path, error }) if path.is_empty() => Err(error),
            Some(Finding { path, error }) => Err(error.with("at", path.join("."))),
        }
    }

    /// What is wrong: at least the first [`limit::APP_FILE_FINDINGS`] of it.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        const ENOUGH: usize = limit::APP_FILE_FINDINGS;
        let mut found = Vec::new();
        let mut add = |path: &[&str], error| {
            found.push(Finding { path: path.iter().map(|part| (*part).to_owned()).collect(), error });
        };
        if self.services.is_empty() {
            add(&["services"], Error::invalid("an app has at least one service"));
        }
        if self.services.len() > limit::SERVICES {
            add(&["services"], Error::invalid("too many services").with("most", limit::SERVICES));
            return found;
        }
        if let Err(error) = self.order() {
            let at = error.context("service").unwrap_or_default().to_owned();
            add(&["services", &at, "needs"], error);
        }
        if self.environments.len() > limit::ENVIRONMENTS {
            add(&["environments"], Error::invalid("too many environments").with("most", limit::ENVIRONMENTS));
        }
        let logs = self.logs.findings().into_iter();
        found.extend(logs.map(|(path, error)| Finding { path: [vec!["logs".into()], path].concat(), error }));
        found.extend(self.service_findings());
        for environment in self.environments.keys().take(limit::ENVIRONMENTS) {
            if found.len() > ENOUGH {
                break;
            }
            found.extend(self.overlay_findings(environment));
        }
        found
    }

    /// What is wrong with the services of this app, environments aside.
    fn service_findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut claimed = BTreeMap::new();
        for (name, service) in &self.services {
            if found.len() > limit::APP_FILE_FINDINGS {
                break;
            }
            let mut add = |path: Vec<String>, error| {
                let path = ["services".to_owned(), name.as_str().to_owned()].into_iter().chain(path);
                found.push(Finding { path: path.collect(), error });
            };
            for (path, error) in service.findings().into_iter().chain(self.reference_findings(name, service))
            {
                add(path, error);
            }
            for (at, domain) in service.domain.iter().enumerate() {
                if let Some(owner) = claimed.insert(domain, name).filter(|owner| *owner != name) {
                    let error = Error::invalid("another service has this domain").with("domain", domain);
                    add(vec!["domain".to_owned(), at.to_string()], error.with("owner", owner));
                }
            }
        }
        found
    }

    /// What is wrong in one environment and not in the app as such.
    fn overlay_findings(&self, environment: &EnvironmentName) -> Vec<Finding> {
        let Some(overlay) = self.environments.get(environment) else { return Vec::new() };
        let base = ["environments", environment.as_str()].map(str::to_owned);
        let unknown = overlay.services.keys().filter(|name| !self.services.contains_key(*name));
        let unknown = unknown.take(limit::SERVICES).map(|name| {
            let path = base.iter().cloned().chain(["services".to_owned(), name.as_str().to_owned()]);
            Finding { path: path.collect(), error: self.unknown_service(name.as_str()) }
        });
        let known = self.service_findings();
        let is_new = |finding: &Finding| {
            let same = |known: &Finding| {
                known.path == finding.path && known.error.to_string() == finding.error.to_string()
            };
            !known.iter().any(same)
        };
        let own = self.overlaid(environment).service_findings().into_iter().filter(is_new);
        let own = own.map(|Finding { path, error }| Finding {
            path: base.iter().cloned().chain(path).collect(),
            error,
        });
        unknown.chain(own).collect()
    }

    fn unknown_service(&self, name: &str) -> Error {
        let error = Error::invalid("no such service in this app").with("service", name);
        match nearest(name, self.services.keys().map(ServiceName::as_str)) {
            Some(near) => error.with("did you mean", near),
            None => error,
        }
    }

    fn reference_findings(&self, name: &ServiceName, service: &ServiceSpec) -> Vec<(Vec<String>, Error)> {
        let mut found = Vec::new();
        // Each variable and who sets it.
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        known.extend(
            service.secrets.iter().map(|secret| (secret.as_str().to_owned(), "`secrets`".to_owned())),
        );
        known.insert("PORT".to_owned(), "the platform".to_owned());
        for volume in service.volumes.keys() {
            known.insert(volume_variable(volume), format!("the volume `{volume}`"));
        }
        for (at, need) in service.needs.iter().enumerate().take(limit::NEEDS) {
            match self.services.get(need) {
                None => {
                    found.push((
                        vec!["needs".to_owned(), at.to_string()],
                        self.unknown_service(need.as_str()),
                    ));
                }
                Some(_) if need == name => {} // a cycle of one, which the order reports
                Some(needed) if needed.port.is_none() => {} // it has no address
                Some(_) => {
                    known.extend(need_variables(need).map(|name| (name, format!("the need of `{need}`"))));
                }
            }
        }
        for name in service.env.keys() {
            // The platform's own names and secrets are reported by the service itself.
            if let Some(by) =
                known.get(name).filter(|by| by.starts_with("the need") || by.starts_with("the volume"))
            {
                let error = Error::invalid("this variable is set already").with("name", name).with("by", by);
                found.push((vec!["env".to_owned(), name.clone()], error));
            }
        }
        known.extend(service.env.keys().map(|name| (name.clone(), "`env`".to_owned())));
        for (field, command) in [("run", &service.run), ("before_release", &service.before_release)] {
            let Some(command) = command else { continue };
            let path = || vec![field.to_owned()];
            match command.variables() {
                Err(error) => found.push((path(), error)),
                Ok(used) => {
                    let unknown = used.into_iter().filter(|used| !known.contains_key(used));
                    found.extend(unknown.take(limit::APP_FILE_FINDINGS).map(|used| {
                        let error = Error::invalid("no such variable here").with("variable", &used);
                        let near = nearest(&used, known.keys().map(String::as_str));
                        (path(), if let Some(near) = near { error.with("did you mean", near) } else { error })
                    }));
                }
            }
        }
        found
    }

    /// The services in an order in which each comes after all that it needs; alphabetical where either may come first.
    ///
    /// # Errors
    /// `Invalid` where services need each other in a circle, with the circle's path, or where there are more than
    /// [`limit::SERVICES`].
    pub fn order(&self) -> Result<Vec<ServiceName>> {
        if self.services.len() > limit::SERVICES {
            return Err(Error::invalid("too many services").with("most", limit::SERVICES));
        }
        let mut order = Vec::with_capacity(self.services.len());
        let mut done = BTreeSet::new();
        for name in self.services.keys() {
            self.visit(name, &mut Vec::new(), &mut done, &mut order)?;
        }
        Ok(order)
    }

    fn visit<'a>(
        &'a self,
        name: &'a ServiceName,
        path: &mut Vec<&'a ServiceName>,
        done: &mut BTreeSet<&'a ServiceName>,
        order: &mut Vec<ServiceName>,
    ) -> Result<()> {
        if done.contains(name) {
            return Ok(());
        }
        if let Some(start) = path.iter().position(|seen| *seen == name) {
            let circle: Vec<&str> =
                path[start..].iter().map(|seen| seen.as_str()).chain([name.as_str()]).collect();
            return Err(Error::invalid("services need each other in a circle")
                .with("path", circle.join(" -> "))
                .with("service", name));
        }
        path.push(name);
        // A need that is no service is reported on its own.
        let service = self.services.get_key_value(name);
        for need in
            service.iter().flat_map(|(_, spec)| &spec.needs).filter(|need| self.services.contains_key(*need))
        {
            self.visit(need, path, done, order)?;
        }
        path.pop();
        if let Some((name, _)) = service {
            done.insert(name);
            order.push(name.clone());
        }
        Ok(())
    }
}

impl App for AppSpec {
    fn describe(&self) -> Result<AppSpec> {
        Ok(self.clone())
    }
}

/// The variables that tell a service where one that it needs is reached.
pub(crate) fn need_variables(need: &ServiceName) -> [String; 3] {
    let prefix = need.variable_prefix();
    [format!("{prefix}_HOST"), format!("{prefix}_PORT"), format!("{prefix}_URL")]
}

/// The variable that tells a program on a host where its volume is.
pub(crate) fn volume_variable(name: &super::name::VolumeName) -> String {
    format!("VOLUME_{}", name.as_str().to_ascii_uppercase().replace('-', "_"))
}

/// The candidate that a mistyped word most likely meant, if one is near enough.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(limit::NAME * 2).collect();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len().min(word.len()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// That a word names nothing that is known: with the name that was most likely meant, or else with all.
pub(crate) fn unknown(message: &str, word: &str, known: &[impl AsRef<str>]) -> Error {
    let (error, names) =
        (Error::invalid(message).with("found", excerpt(word)), known.iter().map(AsRef::as_ref));
    match nearest(word, names.clone()) {
        Some(near) => error.with("did you mean", near),
        None => error.with("known", names.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(services: &[(&str, &[&str])]) -> AppSpec {
        services.iter().fold(AppSpec::new("shop").unwrap(), |app, (name, needs)| {
            let mut service = ServiceSpec::run(["true"]).unwrap();
            service.needs = needs.iter().map(|need| ServiceName::new(need).unwrap()).collect();
            app.with_service(name, &service).unwrap()
        })
    }

    #[test]
    fn services_come_after_what_they_need() {
        let order = app(&[("web", &["api"]), ("api", &["db", "cache"]), ("db", &[]), ("cache", &[])])
            .order()
            .unwrap();
        assert_eq!(order.iter().map(ServiceName::as_str).collect::<Vec<_>>(), ["db", "cache", "api", "web"]);
    }

    #[test]
    fn a_circle_is_refused_with_its_path() {
        let error = app(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]).validate().unwrap_err();
        assert_eq!(error.context("path"), Some("b -> c -> b"));
        let error = app(&[("a", &["a"])]).validate().unwrap_err();
        assert_eq!(error.context("path"), Some("a -> a"));
    }

    #[test]
    fn an_unknown_need_names_the_nearest() {
        let error = app(&[("web", &["abi"]), ("api", &[])]).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no such service in this app (service: abi, did you mean: api, at: services.web.needs.0)"
        );
    }

    #[test]
    fn an_overlay_replaces_what_it_names() {
        let mut app = app(&[("api", &[])]);
        let staging = EnvironmentName::new("staging").unwrap();
        let mut overlay = EnvironmentOverlay::default();
        let difference =
            super::super::environment::ServiceOverlay { replicas: Some(3), ..Default::default() };
        overlay.services.insert(ServiceName::new("api").unwrap(), difference);
        app.environments.insert(staging.clone(), overlay);
        assert_eq!(app.for_environment(&staging).unwrap().services["api"].replicas, 3);
        assert_eq!(app.for_environment(&EnvironmentName::production()).unwrap().services["api"].replicas, 1);
    }
}

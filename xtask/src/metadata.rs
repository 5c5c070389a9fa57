//! What `cargo metadata` says about the packages: features and the Rust version that they need.

use std::{fmt, str::FromStr};

use crate::{error::Error, json::Value, process::capture, workspace::Workspace};

/// A package of the workspace or of its dependencies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Of this workspace, not a dependency from elsewhere.
    pub(crate) member: bool,
    pub(crate) publish: bool,
    /// Without `default`.
    pub(crate) features: Vec<String>,
    pub(crate) rust_version: Option<RustVersion>,
    /// The names of its integration tests.
    pub(crate) tests: Vec<String>,
}

/// All packages of the dependency graph, for all platforms, as the lock file has them.
///
/// # Errors
///
/// Cargo fails, for one because the lock file is out of date, or says what we don't understand.
pub(crate) fn packages(workspace: &Workspace) -> Result<Vec<Package>, Error> {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--all-features"];
    capture(&mut workspace.cargo(arguments))
        .and_then(|text| parse(&text))
        .map_err(|error| Error::Failed(format!("cargo metadata: {error}")))
}

fn parse(text: &str) -> Result<Vec<Package>, String> {
    let metadata = Value::parse(text)?;
    let packages = metadata.member("packages").and_then(Value::elements);
    packages.ok_or("no packages in it")?.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package, String> {
    let text = |name| value.member(name).and_then(Value::text);
    let name = text("name").ok_or("a package without a name")?.to_owned();
    let features = value
        .member("features")
        .and_then(Value::members)
        .unwrap_or_default();
    let rust_version = text("rust_version")
        .map(str::parse)
        .transpose()
        .map_err(|error| format!("{name}: {error}"))?;
    let targets = value.member("targets").and_then(Value::elements);
    Ok(Package {
        tests: targets
            .unwrap_or_default()
            .iter()
            .filter_map(integration_test)
            .collect(),
        version: text("version").unwrap_or_default().to_owned(),
        member: value.member("source").is_none_or(|source| *source == Value::Null),
        // A list of registries. The empty one stands for `publish = false`.
        publish: value
            .member("publish")
            .and_then(Value::elements)
            .is_none_or(|to| !to.is_empty()),
        features: features
            .iter()
            .map(|(feature, _)| feature.clone())
            .filter(|feature| feature != "default")
            .collect(),
        rust_version,
        name,
    })
}

/// A target's name, if it is an integration test.
fn integration_test(target: &Value) -> Option<String> {
    let kinds = target.member("kind").and_then(Value::elements)?;
    let test = kinds.iter().any(|kind| kind.text() == Some("test"));
    target
        .member("name")
        .and_then(Value::text)
        .filter(|_| test)
        .map(str::to_owned)
}

/// A version of Rust; a missing patch number is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RustVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl FromStr for RustVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is no Rust version");
        let mut numbers = text.split('.').map(|part| part.parse().map_err(|_| error()));
        let version = Self {
            major: numbers.next().ok_or_else(error)??,
            minor: numbers.next().unwrap_or(Ok(0))?,
            patch: numbers.next().unwrap_or(Ok(0))?,
        };
        if numbers.next().is_some() {
            Err(error())
        } else {
            Ok(version)
        }
    }
}

impl fmt::Display for RustVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The combinations of features to check: all of them for up to four features, else none, each alone,
/// and all together.
pub(crate) fn combinations(features: &[String]) -> Vec<Vec<&str>> {
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    if features.len() > 4 {
        let alone = features.iter().map(|feature| vec![*feature]);
        return [Vec::new()]
            .into_iter()
            .chain(alone)
            .chain([features.clone()])
            .collect();
    }
    let mut combinations = vec![Vec::new()];
    for feature in features {
        let with: Vec<Vec<&str>> = combinations
            .iter()
            .map(|without| without.iter().copied().chain([feature]).collect())
            .collect();
        combinations.extend(with);
    }
    combinations
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"packages": [
        {"name": "highwater-http", "version": "0.1.0", "source": null, "publish": null,
         "features": {"axum": ["dep:axum-core"], "default": ["axum"]}, "rust_version": "1.89",
         "targets": [{"kind": ["lib"], "name": "highwater_http"}, {"kind": ["test"], "name": "request"}]},
        {"name": "xtask", "version": "0.1.0", "source": null, "publish": [], "features": {},
         "rust_version": "1.89"},
        {"name": "tower-layer", "version": "0.3.3", "source": "registry+https://index",
         "publish": null, "features": {}, "rust_version": null,
         "metadata": {"rust_version": "9.9"}}
    ], "resolve": null}"#;

    #[test]
    fn packages_are_read() {
        let packages = parse(METADATA).unwrap();
        let [http, xtask, layer] = &packages[..] else {
            panic!("{packages:?}")
        };
        assert_eq!(http.features, ["axum"]);
        assert_eq!(http.tests, ["request"]);
        assert!(xtask.tests.is_empty());
        assert!(http.member && http.publish);
        assert_eq!(http.rust_version, Some("1.89.0".parse().unwrap()));
        assert!(xtask.member && !xtask.publish);
        assert!(!layer.member);
        assert_eq!(layer.rust_version, None);
    }

    #[test]
    fn rust_versions_compare_by_number() {
        let version = |text: &str| text.parse::<RustVersion>().unwrap();
        assert!(version("1.9") < version("1.10.1"));
        assert_eq!(version("1.89"), version("1.89.0"));
        assert_eq!(version("1.89").to_string(), "1.89.0");
        for text in ["", "1.x", "1.2.3.4", "nightly"] {
            assert!(text.parse::<RustVersion>().is_err(), "{text} was taken");
        }
    }

    fn features(count: usize) -> Vec<String> {
        ["a", "b", "c", "d", "e"]
            .into_iter()
            .take(count)
            .map(String::from)
            .collect()
    }

    #[test]
    fn few_features_are_combined_in_all_ways() {
        assert_eq!(combinations(&[]), [Vec::<&str>::new()]);
        assert_eq!(
            combinations(&features(2)),
            [vec![], vec!["a"], vec!["b"], vec!["a", "b"]]
        );
        let features = features(4);
        let mut sixteen = combinations(&features);
        assert_eq!(sixteen.len(), 16);
        sixteen.sort();
        sixteen.dedup();
        assert_eq!(sixteen.len(), 16);
    }

    #[test]
    fn many_features_are_checked_none_each_and_all() {
        let features = features(5);
        let combinations = combinations(&features);
        assert_eq!(combinations.len(), 7);
        assert_eq!(combinations.first().unwrap().len(), 0);
        assert_eq!(combinations.last().unwrap().len(), 5);
    }
}

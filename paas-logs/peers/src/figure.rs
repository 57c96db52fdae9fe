//! What can be measured, by name: also the testbed's, so that it refuses a wrong name before it builds anything.

/// A figure, or a few of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Keywords,
    Ingest,
    Queries,
}

impl Figure {
    /// In the order in which they are measured.
    const ALL: [Self; 3] = [Self::Keywords, Self::Ingest, Self::Queries];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Keywords => "keywords",
            Self::Ingest => "ingest",
            Self::Queries => "queries",
        }
    }

    /// Those of these names; without any, all.
    ///
    /// # Errors
    /// Which name is none, and which there are.
    pub(crate) fn named(names: &[&str]) -> Result<Vec<Self>, String> {
        if let Some(unknown) = names.iter().find(|name| Self::ALL.iter().all(|own| own.name() != **name)) {
            return Err(format!("no figure is called `{unknown}`: {}", Self::ALL.map(Self::name).join(", ")));
        }
        let is_asked = |own: &Self| names.is_empty() || names.contains(&own.name());
        Ok(Self::ALL.into_iter().filter(is_asked).collect())
    }
}

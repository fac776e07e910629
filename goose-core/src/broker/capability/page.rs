//! Looking through a list in bounded steps.

/// How far to look, and from where.
///
/// A page *looks at* up to `limit` jobs and returns those that pass the filter: with a narrow filter it may be empty
/// although more follow. Go on while [`Paged::next`] is set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// How many jobs to look at, at most [`Page::MAX`].
    pub limit: u32,
    /// Where the page before ended; `None` for the first.
    pub after: Option<Cursor>,
}

impl Page {
    /// The most jobs one page looks at.
    pub const MAX: u32 = 1000;

    /// The first page of a list; larger limits are cut to [`Page::MAX`].
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self { limit: limit.clamp(1, Self::MAX), after: None }
    }

    /// The page that follows a cursor.
    #[must_use]
    pub fn after(limit: u32, cursor: Cursor) -> Self {
        Self { after: Some(cursor), ..Self::first(limit) }
    }
}

/// A place in a list. Only the broker that made it understands it; it stays valid while jobs come and go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl Cursor {
    /// A cursor with the broker's content, printable ASCII so that it can stand in a URL query.
    #[must_use]
    pub fn new(content: impl Into<String>) -> Self {
        Self(content.into())
    }

    /// The broker's content.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Paged<T> {
    /// What passed the filter, in the order of the list.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end of the list.
    pub next: Option<Cursor>,
}

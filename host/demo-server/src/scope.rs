//! What can be asked for here.

use std::collections::BTreeSet;
use std::fmt;

/// One scope token (RFC 6749 section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ScopeToken {
    NotesRead,
    OfflineAccess,
}

impl ScopeToken {
    pub(crate) const ALL: [Self; 2] = [Self::NotesRead, Self::OfflineAccess];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotesRead => "notes:read",
            Self::OfflineAccess => "offline_access",
        }
    }

    /// What it means, for the person who is asked.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::NotesRead => "Read your notes",
            Self::OfflineAccess => "Stay connected while you are away",
        }
    }
}

/// A set of scope tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope(BTreeSet<ScopeToken>);

impl Scope {
    /// Reads a `scope` parameter; without one, the default is reading notes.
    /// `None` where a token is not known here.
    pub(crate) fn requested(parameter: Option<&str>) -> Option<Self> {
        let mut tokens = BTreeSet::new();
        for name in parameter.unwrap_or("notes:read").split(' ') {
            tokens.insert(
                ScopeToken::ALL
                    .into_iter()
                    .find(|token| token.name() == name)?,
            );
        }
        Some(Self(tokens))
    }

    pub(crate) fn contains(&self, token: ScopeToken) -> bool {
        self.0.contains(&token)
    }

    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = ScopeToken> {
        self.0.iter().copied()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, token) in self.tokens().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token.name())?;
        }
        Ok(())
    }
}

//! The provider catalogue: one JSON file per provider in `catalogue/`, described
//! in `README.md`, checked and packed when core is built.
//!
//! 1. [`packing`]: the packed form, both ways;
//! 2. [`pattern`]: what the value of a provider's parameter may be;
//! 3. `schema` (feature `compiler`): the fields an entry can have;
//! 4. `compiler` (feature `compiler`): from the source files to the packed form.

#[cfg(feature = "compiler")]
pub mod compiler;
pub mod packing;
pub mod pattern;
#[cfg(feature = "compiler")]
pub mod schema;

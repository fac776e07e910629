//! The words of the errors of this crate.

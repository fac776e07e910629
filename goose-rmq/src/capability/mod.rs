//! The optional powers of the broker, one per file.

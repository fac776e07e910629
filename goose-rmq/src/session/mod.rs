//! What sessions receive, hold and settle.

//! A thread of our own with a small runtime on it, where every connection lives.

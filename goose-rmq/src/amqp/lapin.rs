//! The one module that names the client library.

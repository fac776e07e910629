//! TLS: whom to trust.
//!
//! Never the library's own default, which trusts the system's certificates also where others are given, leaves out those that
//! it cannot read without a word, and makes its choice of cryptography that of the whole program.

use std::sync::Arc;

use goose_core::{Error, ErrorKind, Result};
use lapin::tcp::RustlsConnector;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::load_native_certs;

/// With the certificates that were given, or those of the system.
pub(super) fn trusting(given: Option<&[u8]>) -> Result<RustlsConnector> {
    let roots = match given {
        Some(pem) => roots_in(pem)?,
        None => roots_of_the_system()?,
    };
    // The program's choice, if it has made one.
    let provider = CryptoProvider::get_default().map_or_else(|| Arc::new(ring::default_provider()), Arc::clone);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            let message = "the provider of cryptography that this program has installed offers no version of TLS";
            Error::new(ErrorKind::Misconfigured, message).with_source(error)
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(RustlsConnector::from(config))
}

fn roots_in(pem: &[u8]) -> Result<RootCertStore> {
    let invalid = |source: String| {
        let message = "the root certificates cannot be read; give certificates in PEM form";
        Error::new(ErrorKind::InvalidInput, message).with_source(source)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() { Err(invalid("there is no certificate in them".to_owned())) } else { Ok(roots) }
}

/// One that cannot be read is left out: the others may be all that is needed.
fn roots_of_the_system() -> Result<RootCertStore> {
    let mut found = load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let message = "the system has no root certificates; install ca-certificates, or give some to RmqOptions";
        let error = Error::new(ErrorKind::Misconfigured, message);
        return Err(match found.errors.pop() {
            Some(source) => error.with_source(source.to_string()),
            None => error,
        });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let key = include_bytes!("../../../tests/certificates/server.key");
        let broken = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let torn = b"-----BEGIN CERTIFICATE-----\nMAA=\n";
        for bad in [&b""[..], b"/etc/ssl/ca.pem", key, broken, torn] {
            let error = trusting(Some(bad)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:#}");
            assert!(error.to_string().contains("PEM"), "{error:#}");
        }
    }
}

//! What `rediss://` connections trust, and how they present themselves.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::error::{Error, ErrorKind};

/// How connections to `rediss://` (or `valkeys://`) URLs are made: by rustls, with TLS 1.2 or 1.3.
///
/// Without further options a server must have a certificate of one of the system's certificate
/// authorities, for the host name in its URL.
///
/// ```no_run
/// use highwater::{Client, TlsOptions};
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder()
///     .primary("rediss://cart:password@redis-1.internal:6379")
///     .replica("rediss://cart:password@redis-2.internal:6379")
///     .tls(
///         TlsOptions::new()
///             .ca_pem(std::fs::read("ca.pem")?)
///             .client_identity_pem(std::fs::read("client.pem")?, std::fs::read("client.key")?),
///     )
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct TlsOptions {
    authorities: Vec<Vec<u8>>,
    native_roots: bool,
    #[cfg(feature = "tls-webpki-roots")]
    webpki_roots: bool,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
    insecure_urls: bool,
}

impl TlsOptions {
    /// The system's certificate authorities, and no certificate of one's own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in this PEM text, and no longer the system's, unless
    /// [`native_roots`](Self::native_roots) says so. May be given several times.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(pem.into());
        self
    }

    /// Trusts the system's certificate authorities: the default, to be said where
    /// [`ca_pem`](Self::ca_pem) is to add to them.
    pub fn native_roots(mut self) -> Self {
        self.native_roots = true;
        self
    }

    /// Trusts the certificate authorities of Mozilla's program, which are built in.
    #[cfg(feature = "tls-webpki-roots")]
    pub fn webpki_roots(mut self) -> Self {
        self.webpki_roots = true;
        self
    }

    /// Presents this certificate (with the chain that leads to its authority, if there is one), for
    /// servers that ask for one (`tls-auth-clients yes`). Both are PEM text.
    pub fn client_identity_pem(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The name that servers' certificates must be for, where it is not the host in the URL: behind a
    /// tunnel, or with addresses instead of names. It is also the name that is asked for (SNI).
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Lets URLs that end in `#insecure` have their way, as in redis-rs: **their servers' certificates
    /// are not verified**, so anybody on the way can read and change everything. Without this option
    /// such URLs are refused.
    pub fn dangerously_allow_insecure_urls(mut self) -> Self {
        self.insecure_urls = true;
        self
    }

    /// Reads the certificates.
    pub(crate) fn build(&self) -> Result<TlsSetup, Error> {
        let provider = Arc::new(ring::default_provider());
        let verified = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("no version of TLS can be offered", error))?
            .with_root_certificates(self.roots()?);
        let name = match &self.server_name {
            None => None,
            Some(name) => Some(server_name(name)?),
        };
        let unverified = if self.insecure_urls {
            let unverified = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| wrong("no version of TLS can be offered", error))?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
            Some(Arc::new(self.presented(unverified)?))
        } else {
            None
        };
        Ok(TlsSetup {
            verified: Arc::new(self.presented(verified)?),
            unverified,
            name,
        })
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        let mut native = self.native_roots;
        #[cfg(not(feature = "tls-webpki-roots"))]
        let chosen = !self.authorities.is_empty();
        #[cfg(feature = "tls-webpki-roots")]
        let chosen = {
            if self.webpki_roots {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            !self.authorities.is_empty() || self.webpki_roots
        };
        native |= !chosen;
        if native {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(Error::new(
                    ErrorKind::Config,
                    "this system has no certificate authorities: install its package of them (ca-certificates), \
                     or give one with TlsOptions::ca_pem",
                ));
            }
        }
        for pem in &self.authorities {
            for certificate in certificates(pem, "the certificate authority")? {
                roots
                    .add(certificate)
                    .map_err(|error| wrong("the certificate authority can't be used", error))?;
            }
        }
        Ok(roots)
    }

    fn presented(
        &self,
        builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    ) -> Result<ClientConfig, Error> {
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => {
                let chain = certificates(chain, "the client certificate")?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
                    wrong("the client certificate's key is no PEM of a private key", error)
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| wrong("the client certificate and its key can't be used", error))
            }
        }
    }
}

impl fmt::Debug for TlsOptions {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("authorities", &self.authorities.len())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("insecure_urls", &self.insecure_urls)
            .finish_non_exhaustive()
    }
}

/// Certificates that have been read, ready for connections.
#[derive(Clone, Debug)]
pub(crate) struct TlsSetup {
    verified: Arc<ClientConfig>,
    /// For URLs that end in `#insecure`, where they are allowed.
    unverified: Option<Arc<ClientConfig>>,
    name: Option<ServerName<'static>>,
}

impl TlsSetup {
    /// What a connection to `host` is made with; `None` when the URL says `#insecure` and may not.
    pub(crate) fn of(
        &self,
        host: &str,
        insecure: bool,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), Error> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        let config = if insecure {
            self.unverified.as_ref().ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    "a URL ends in #insecure, by which its server's certificate would not be verified: take that \
                     off, or allow it with TlsOptions::dangerously_allow_insecure_urls",
                )
            })?
        } else {
            &self.verified
        };
        Ok((Arc::clone(config), name))
    }
}

/// What to do about a handshake that failed, if it is the configuration that has to change.
pub(crate) fn advice(error: &std::io::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, CertificateError, Error as Tls};
    let error = error.get_ref()?.downcast_ref::<Tls>()?;
    Some(match error {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is of an authority that is not trusted: give that authority's certificate with \
             TlsOptions::ca_pem"
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "its certificate is for another name: use that name in the URL, or give it with TlsOptions::server_name"
        }
        Tls::InvalidCertificate(_) => "its certificate is not valid: renew it at the server",
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => "it asks for a client certificate that it trusts: give one with TlsOptions::client_identity_pem",
        Tls::InvalidMessage(_) => {
            "it does not speak TLS on this port: use redis://, or the port that it has for TLS"
        }
        _ => return None,
    })
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(&format!("{what} is no PEM text"), error))?;
    if found.is_empty() {
        let message = format!("{what} is no PEM text: nothing in it begins with BEGIN CERTIFICATE");
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(found)
}

fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned())
        .map_err(|error| wrong("not a name that a certificate can be for", error))
}

fn wrong(message: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Config, message).with_source(error)
}

/// Takes any certificate for any name; signatures of the handshake are still verified.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate, for tests that need one to be there.
#[cfg(test)]
pub(crate) const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUEjOhEFFwaAodqWEIYzQr4bUn6DIwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdW5pdDAgFw0yNjExMjIxMTU5NDJaGA8yMTI2MTAyOTExNTk0
MlowDzENMAsGA1UEAwwEdW5pdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHBn
JS2LOhg85B5t/mfkP2vvEzq4TKhZcyiCcVv9BK4ESvqkg2R68x24jDih9hTo0Ovq
xGQSTQGPz2tIDKrD5cejUzBRMB0GA1UdDgQWBBSaeACNJjqSZIs5Hc9fEDDdlns5
ATAfBgNVHSMEGDAWgBSaeACNJjqSZIs5Hc9fEDDdlns5ATAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIGVK6JAU4+nKjDsHCmYze24N//Btc/O4CPMC
/H/D1zVFAiEAnOsWUgvmUXZixh547Ics8I1nQuimphUFXK2ZVXfxhpI=
-----END CERTIFICATE-----
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_with_a_word_on_it() {
        for (options, word) in [
            (TlsOptions::new().ca_pem("nonsense"), "authority"),
            (
                TlsOptions::new().ca_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "authority",
            ),
        ] {
            let error = options.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn prints_no_secret() {
        let options = TlsOptions::new().client_identity_pem("certificate", "s3cret");
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}

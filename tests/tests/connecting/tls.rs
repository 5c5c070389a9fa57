//! TLS, where the server's build has it.

use std::{fs, path::PathBuf, time::Duration};

use highwater::{Client, ErrorKind, Session, TlsOptions};
use highwater_testkit::{Directions, Relay, Server, ServerKind, TlsFiles, wait_until_async};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use redis::AsyncCommands;
use tempfile::TempDir;

use crate::{SOON, bulk, get, refusal};

/// A certificate authority, and what it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate whose issuer has its own name for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "authority");
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names, and its key.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The files of a server of these names.
    fn files(&self, names: &[&str]) -> TlsFiles {
        let write = |file: &str, text: &str| -> PathBuf {
            let path = self.directory.path().join(file);
            fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = self.issue(names);
        TlsFiles {
            certificate: write("server.pem", &certificate),
            key: write("server.key", &key),
            authority: write("ca.pem", &self.pem()),
        }
    }
}

/// False, with a word on it, where there is no TLS to test.
fn has_tls() -> bool {
    let kind = ServerKind::from_env().unwrap();
    let has = kind.has_tls().unwrap();
    if !has {
        crate::note(&format!("left out: this build of {} has no TLS", kind.program()));
    }
    has
}

fn start(authority: &Authority, names: &[&str], arguments: &[&str]) -> Server {
    Server::builder()
        .tls(authority.files(names))
        .args(arguments.iter().copied())
        .start()
        .unwrap()
}

const ANY_CLIENT: [&str; 2] = ["--tls-auth-clients", "no"];

fn url(server: &Server) -> String {
    format!("rediss://127.0.0.1:{}", server.tls_port().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_read_their_own_writes_over_tls() {
    if !has_tls() {
        return;
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        let authority = Authority::new();
        let arguments = [&ANY_CLIENT[..], &["--tls-protocols", version]].concat();
        let primary = start(&authority, &["127.0.0.1"], &arguments);
        let replica = Server::builder()
            .tls(authority.files(&["127.0.0.1"]))
            .args(arguments)
            .replica_of("127.0.0.1", primary.port())
            .start()
            .unwrap();
        replica
            .wait_for(SOON, "the replica is there", |info| info.link_up)
            .unwrap();
        let client = Client::builder()
            .primary(format!("{}/1", url(&primary)))
            .replica(format!("{}/1", url(&replica)))
            .tls(TlsOptions::new().ca_pem(authority.pem()))
            .max_wait(SOON)
            .connect()
            .await
            .unwrap();
        assert_eq!(client.status().replicas[0].proof_form, Some("tracking"));
        let tasks: Vec<_> = (0..32)
            .map(|caller: usize| {
                let client = client.clone();
                tokio::spawn(async move {
                    let session = Session::new();
                    let mut connection = client.with(&session);
                    let key = format!("key:{caller}");
                    for round in 0..40_usize {
                        // Some are larger than what a TLS record or a session's buffer holds.
                        let value = format!("{caller}:{round}:").repeat(1 + 3000 * (round % 5));
                        let () = connection.set(&key, &value).await.unwrap();
                        let seen: String = connection.get(&key).await.unwrap();
                        assert_eq!(seen, value);
                    }
                    session.routes().replica
                })
            })
            .collect();
        let mut from_replicas = 0;
        for task in tasks {
            from_replicas += task.await.unwrap();
        }
        assert!(from_replicas > 0);
        client.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_does_not_take_at_once_goes_out_later() {
    if !has_tls() {
        return;
    }
    let authority = Authority::new();
    let server = start(&authority, &["127.0.0.1"], &ANY_CLIENT);
    let relay = Relay::start((std::net::Ipv4Addr::LOCALHOST, server.tls_port().unwrap()).into()).unwrap();
    let client = Client::builder()
        .primary(format!("rediss://127.0.0.1:{}", relay.port()))
        .tls(TlsOptions::new().ca_pem(authority.pem()))
        .response_timeout(Duration::from_secs(30))
        .connect()
        .await
        .unwrap();
    relay.impair(Directions::Both);
    relay.pause();
    let value = "v".repeat(48 << 20);
    let session = Session::new();
    let writing = {
        let (client, session, value) = (client.clone(), session.clone(), value.clone());
        tokio::spawn(async move { client.with(&session).set::<_, _, ()>("large", value).await })
    };
    wait_until_async(SOON, "the write is in flight", || {
        client.status().primary.in_flight == 1
    })
    .await
    .unwrap();
    relay.resume();
    writing.await.unwrap().unwrap();
    let seen: String = client.with(&session).get("large").await.unwrap();
    assert!(seen == value);

    // A connection that is cut is made anew, with a new session.
    relay.cut();
    wait_until_async(SOON, "the connection is made anew", || {
        client.status().primary.disconnects == 1 && client.is_ready()
    })
    .await
    .unwrap();
    assert_eq!(
        client.call(get("missing", &session)).await.unwrap().value,
        redis::Value::Nil
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_be_trusted_and_be_who_it_is_said_to_be() {
    if !has_tls() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = start(&authority, &["redis.internal"], &ANY_CLIENT);
    let builder = |options: TlsOptions| Client::builder().primary(url(&server)).tls(options);
    let trusting = || TlsOptions::new().ca_pem(authority.pem());
    for (options, advice) in [
        (
            TlsOptions::new()
                .ca_pem(stranger.pem())
                .server_name("redis.internal"),
            "TlsOptions::ca_pem",
        ),
        (trusting(), "TlsOptions::server_name"),
        (
            trusting().server_name("other.internal"),
            "TlsOptions::server_name",
        ),
    ] {
        let error = refusal(builder(options)).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(advice), "{error}");
    }
    let client = builder(trusting().server_name("redis.internal"))
        .connect()
        .await
        .unwrap();
    let () = client.with(&Session::new()).set("k", "v").await.unwrap();

    // Unverified only where URL and options both say so.
    let insecure = || Client::builder().primary(format!("{}#insecure", url(&server)));
    let error = refusal(insecure()).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("dangerously_allow_insecure_urls"),
        "{error}"
    );
    let allowed = || {
        TlsOptions::new()
            .ca_pem(stranger.pem())
            .dangerously_allow_insecure_urls()
    };
    let client = insecure().tls(allowed()).connect().await.unwrap();
    assert_eq!(
        client.call(get("k", &Session::new())).await.unwrap().value,
        bulk("v")
    );
    let error = refusal(builder(allowed())).await;
    assert!(error.to_string().contains("TlsOptions::ca_pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_can_ask_for_a_certificate() {
    if !has_tls() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    for version in ["TLSv1.2", "TLSv1.3"] {
        let arguments = ["--tls-auth-clients", "yes", "--tls-protocols", version];
        let server = start(&authority, &["127.0.0.1", "localhost"], &arguments);
        let builder = |options: TlsOptions| {
            Client::builder()
                .primary(url(&server))
                .tls(options.ca_pem(authority.pem()))
        };
        let (certificate, key) = authority.issue(&["cart"]);
        let client = builder(TlsOptions::new().client_identity_pem(certificate, key))
            .connect()
            .await
            .unwrap();
        let () = client.with(&Session::new()).set("k", "v").await.unwrap();
        let (certificate, key) = stranger.issue(&["cart"]);
        for options in [
            TlsOptions::new(),
            TlsOptions::new().client_identity_pem(certificate, key),
        ] {
            let error = refusal(builder(options)).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{version}: {error}");
            assert!(
                error.to_string().contains("TlsOptions::client_identity_pem"),
                "{version}: {error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistaken_ports_are_named() {
    if !has_tls() {
        return;
    }
    let authority = Authority::new();
    let server = start(&authority, &["127.0.0.1"], &ANY_CLIENT);
    let plain_to_tls = format!("redis://127.0.0.1:{}", server.tls_port().unwrap());
    let error = refusal(Client::builder().primary(plain_to_tls)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("rediss://"), "{error}");

    let tls_to_plain = Client::builder()
        .primary(format!("rediss://127.0.0.1:{}", server.port()))
        .tls(TlsOptions::new().ca_pem(authority.pem()))
        .connect_timeout(Duration::from_millis(200));
    let error = refusal(tls_to_plain).await;
    assert!(error.to_string().contains("TLS"), "{error}");

    let unused = Client::builder()
        .primary(server.url())
        .tls(TlsOptions::new().ca_pem(authority.pem()));
    let error = refusal(unused).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("rediss://"), "{error}");
}

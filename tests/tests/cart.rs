//! The example service as a user has it: processes of their own, HTTP, and nothing shared but Redis and
//! the header `highwater-token`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use common::SOON;
use highwater_testkit::{Sentinels, Topology, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// The service's binary, built beside this test's.
fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let directory = test.ancestors().nth(2).unwrap();
        // `cargo xtask test` has built it, together with all else. Alone it would be built with a choice of
        // features of its own, and all its dependencies anew.
        if std::env::var_os("HIGHWATER_BUILT").is_some_and(|built| directory == Path::new(&built)) {
            return directory.join("axum-cart");
        }
        let mut build = Command::new(env!("CARGO"));
        build
            .args([
                "build",
                "--quiet",
                "--package",
                "highwater-examples",
                "--bin",
                "axum-cart",
                "--target-dir",
            ])
            .arg(directory.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if directory.ends_with("release") {
            build.arg("--release");
        }
        let output = build.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        directory.join("axum-cart")
    })
}

/// A running service. It ends with this value, and with this process.
struct Service {
    process: Child,
    address: String,
    /// What it says on standard error.
    log: PathBuf,
}

impl Service {
    fn start(topology: &Topology, arguments: &[&str]) -> Self {
        let mut all = vec!["--primary".to_owned(), topology.primary().url()];
        all.extend(
            topology
                .replicas()
                .flat_map(|replica| ["--replica".to_owned(), replica.url()]),
        );
        all.extend(arguments.iter().map(ToString::to_string));
        Self::start_with(topology.primary().data_dir(), &all)
    }

    fn start_with(directory: &Path, arguments: &[String]) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = directory.join(format!("axum-cart-{number}.log"));
        let mut process = Command::new(binary())
            .args(["--listen", "127.0.0.1:0", "--exit-with-stdin"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .unwrap()
            .to_owned();
        Self {
            process,
            address,
            log,
        }
    }

    /// Opens a connection, if the service takes one.
    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        let mut stream = self.connect().unwrap();
        let token = token.map_or(String::new(), |token| format!("highwater-token: {token}\r\n"));
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: cart\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n{token}\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Answer::parse(&text)
    }

    /// As a browser does.
    fn browse(&self, method: &str, path: &str, cookie: &str, body: &str) -> Answer {
        let mut stream = self.connect().unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: cart\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\ncookie: {cookie}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Answer::parse(&text)
    }

    fn put(&self, user: &str, sku: &str, quantity: u32, token: Option<&str>) -> Answer {
        let body = format!("{{\"quantity\": {quantity}}}");
        self.ask("PUT", &format!("/carts/{user}/items/{sku}"), token, &body)
    }

    fn cart(&self, user: &str, token: Option<&str>) -> Answer {
        self.ask("GET", &format!("/carts/{user}"), token, "")
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(SOON, "the service ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        })
        .unwrap();
        status.unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole response");
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    fn token(&self) -> &str {
        self.header("highwater-token")
            .expect("a response to a session that has written has a token")
    }

    /// What a browser keeps of this response, if it is told to keep something.
    fn cookie(&self) -> Option<&str> {
        let cookie = self.header("set-cookie")?;
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("Secure"),
            "{cookie}"
        );
        cookie.split(';').next()
    }

    /// How many of an item the cart has.
    fn quantity(&self, sku: &str) -> Option<u32> {
        assert_eq!(self.status, 200, "{self:?}");
        let (_, rest) = self.body.split_once(&format!("\"{sku}\":"))?;
        rest.split([',', '}']).next()?.trim().parse().ok()
    }

    fn routes(&self) -> &str {
        self.header("highwater-route").unwrap_or_default()
    }
}

/// A file with a secret for tokens.
fn key_file(topology: &Topology, name: &str) -> String {
    let path = topology.primary().data_dir().join(name);
    std::fs::write(&path, format!("the secret of {name}, thirty-two bytes")).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn two_processes_share_sessions_by_the_header_alone() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let key = key_file(&topology, "token-key");
    let other_key = key_file(&topology, "other-key");
    let [one, two] = [(), ()].map(|()| Service::start(&topology, &["--token-key-file", &key]));
    let stranger = Service::start(&topology, &["--token-key-file", &other_key]);

    // No replica has anything of what follows.
    topology.relays().for_each(|relay| relay.pause());
    let mut token = None;
    for quantity in 1..=20 {
        let answer = one.put("ann", "apples", quantity, token.as_deref());
        assert_eq!(answer.status, 200, "{answer:?}");
        // With the token, the change is there at every process, also after what another one did.
        let seen = two.cart("ann", Some(answer.token()));
        assert_eq!(seen.quantity("apples"), Some(quantity), "{seen:?}");
        let answer = two.put("ann", "pears", quantity, Some(answer.token()));
        let seen = one.cart("ann", Some(answer.token()));
        assert_eq!(
            (seen.quantity("apples"), seen.quantity("pears")),
            (Some(quantity), Some(quantity)),
            "{seen:?}"
        );
        assert!(seen.routes().contains("primary=1"), "{seen:?}");
        token = Some(answer.token().to_owned());
    }
    // A token that can't be read is doubt, and doubt is settled: nobody is shown too little.
    for token in ["nonsense", token.as_deref().unwrap()] {
        assert_eq!(
            stranger.cart("ann", Some(token)).quantity("apples"),
            Some(20),
            "{token}"
        );
    }
    // Without the token nothing is promised: that the replicas have nothing shows what it is worth.
    assert_eq!(two.cart("ann", None).quantity("apples"), None);

    topology.relays().for_each(|relay| relay.resume());
    topology.wait_in_sync(SOON).unwrap();
    wait_until(SOON, "replicas serve the session again", || {
        let seen = two.cart("ann", token.as_deref());
        assert_eq!(seen.quantity("apples"), Some(20), "{seen:?}");
        seen.routes().contains("replica=1")
    })
    .unwrap();
    let gone = two.ask("DELETE", "/carts/ann/items/apples", token.as_deref(), "");
    assert_eq!(gone.status, 204, "{gone:?}");
    let seen = one.cart("ann", Some(gone.token()));
    assert_eq!(
        (seen.quantity("apples"), seen.quantity("pears")),
        (None, Some(20)),
        "{seen:?}"
    );
}

#[test]
fn without_redis_it_does_not_start_and_says_why() {
    let topology = Topology::builder().start().unwrap();
    let port = topology.primary().port();
    topology.primary().kill();
    let url = topology.primary().url();
    for (arguments, said) in [
        (["--primary", url.as_str(), "--unsigned-tokens"], port.to_string()),
        (
            ["--primary", "nonsense", "--unsigned-tokens"],
            "redis://".to_owned(),
        ),
    ] {
        let output = Command::new(binary())
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(&said), "{error}");
    }
}

#[test]
fn losing_redis_is_an_answer_and_not_an_end() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let mut service = Service::start(&topology, &["--unsigned-tokens"]);
    let written = service.put("ann", "apples", 3, None);
    assert_eq!(written.status, 200, "{written:?}");
    topology.wait_in_sync(SOON).unwrap();

    // Without the primary, what the replica has is still served, and changes are refused.
    topology.primary().kill();
    wait_until(SOON, "changes are refused", || {
        service.put("ann", "pears", 1, None).status == 503
    })
    .unwrap();
    let seen = service.cart("ann", Some(written.token()));
    assert_eq!(seen.quantity("apples"), Some(3), "{seen:?}");
    topology.replica(0).kill();
    wait_until(SOON, "reads are refused", || {
        let answer = service.cart("ann", Some(written.token()));
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        answer.status == 503
    })
    .unwrap();
    let answer = service.put("ann", "apples", 4, Some(written.token()));
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("\"error\""), "{answer:?}");
    assert_eq!(service.ask("GET", "/status", None, "").status, 200);
    assert!(service.process.try_wait().unwrap().is_none());

    topology.primary().restart().unwrap();
    let mut back = None;
    wait_until(SOON, "the service is back", || {
        let answer = service.put("ann", "apples", 5, None);
        let done = answer.status == 200;
        back = Some(answer);
        done
    })
    .unwrap();
    let seen = service.cart("ann", Some(back.unwrap().token()));
    assert_eq!(seen.quantity("apples"), Some(5), "{seen:?}");
}

/// As a user runs it: the URLs of sentinels that have a user of their own, and of the nodes nothing but their password.
#[test]
fn sentinels_lead_it_through_a_failover() {
    let sentinels = Sentinels::builder()
        .replicas(2)
        .sentinels(1)
        .sentinel_lines([format!("sentinel auth-pass {} of-the-nodes", Sentinels::NAME)])
        .start()
        .unwrap();
    let sentinel = &sentinels.sentinels()[0];
    // The test's own connections are older than the passwords.
    for node in sentinels.nodes() {
        for option in ["masterauth", "requirepass"] {
            node.command(&["CONFIG", "SET", option, "of-the-nodes"]).unwrap();
        }
    }
    for rights in [
        &[
            "ACL",
            "SETUSER",
            "watcher",
            "on",
            ">of-the-sentinel",
            "+@all",
            "allchannels",
        ][..],
        &["ACL", "SETUSER", "default", "off"],
    ] {
        sentinel.command(rights).unwrap();
    }
    let arguments = |password: &str| {
        let url = format!("redis://watcher:{password}@127.0.0.1:{}", sentinel.port());
        [
            "--sentinel",
            &url,
            "--master-name",
            Sentinels::NAME,
            "--nodes-like",
            "redis://:of-the-nodes@any/0",
            "--unsigned-tokens",
        ]
        .map(str::to_owned)
    };
    let refused = Command::new(binary())
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments("wrong"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("refuses AUTH") && !said.contains("wrong"), "{said}");

    let service = Service::start_with(sentinel.data_dir(), &arguments("of-the-sentinel"));
    let written = service.put("ann", "apples", 3, None);
    assert_eq!(written.status, 200, "{written:?}");
    for node in sentinels.nodes().skip(1) {
        // So that the failover loses nothing.
        let mark = sentinels.node(0).mark().unwrap();
        node.wait_for(SOON, "the change has arrived", |info| info.covers(mark))
            .unwrap();
    }
    sentinels.node(0).kill();
    let mut after = None;
    wait_until(4 * SOON, "changes are taken again", || {
        // What a replica has is served all the while.
        let seen = service.cart("ann", Some(written.token()));
        assert!(matches!(seen.status, 200 | 503), "{seen:?}");
        after = Some(service.put("ann", "pears", 5, Some(written.token())));
        after.as_ref().is_some_and(|after| after.status == 200)
    })
    .unwrap();
    let seen = service.cart("ann", Some(after.unwrap().token()));
    assert_eq!(
        (seen.quantity("apples"), seen.quantity("pears")),
        (Some(3), Some(5)),
        "{seen:?}"
    );
}

#[test]
fn what_names_the_nodes_twice_or_by_half_is_refused() {
    for arguments in [
        &["--sentinel", "redis://127.0.0.1:1"][..],
        &["--master-name", "m", "--primary", "redis://127.0.0.1:1"],
        &[
            "--sentinel",
            "redis://127.0.0.1:1",
            "--master-name",
            "m",
            "--primary",
            "redis://127.0.0.1:1",
        ],
        &["--unsigned-tokens"],
    ] {
        let output = Command::new(binary())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {output:?}");
    }
}

#[test]
fn sigterm_lets_requests_finish() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let mut service = Service::start(&topology, &["--unsigned-tokens"]);
    let mut stream = service.connect().unwrap();
    write!(
        stream,
        "PUT /carts/ann/items/apples HTTP/1.1\r\nhost: cart\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: 15\r\n\r\n"
    )
    .unwrap();
    // The service is in the middle of the request once it asks for the body.
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    reader.read_line(&mut line).unwrap();

    service.terminate();
    wait_until(SOON, "new connections are refused", || {
        // One may still be made that nobody will serve.
        service.connect().is_err()
    })
    .unwrap();
    assert!(
        service.process.try_wait().unwrap().is_none(),
        "it waits for the request"
    );
    stream.write_all(b"{\"quantity\": 7}").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let answer = Answer::parse(&text);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(service.ended().success());
    let stored = topology
        .primary()
        .command(&["HGET", "cart:ann", "apples"])
        .unwrap();
    assert_eq!(stored.text(), Some("7"));

    // Idle, it ends at once, connections or not.
    let mut service = Service::start(&topology, &["--unsigned-tokens"]);
    let _idle = service.connect().unwrap();
    service.terminate();
    assert!(service.ended().success());
    assert_eq!(
        std::fs::read_to_string(&service.log).unwrap(),
        "",
        "it did not give up on anything"
    );
}

/// 50 requests of a browser side by side, whose responses arrive in any order: each time another one is the last, and
/// its cookie the one that is kept. Whichever it is, nothing that was acknowledged is missing from the next page.
///
/// The replicas have all but the last change. So a cookie of any other request is not enough for a session that does
/// not know of its siblings: a replica would prove to have what it asks for, and lack the change.
fn parallel_requests_of(user: &str, service: &Service, topology: &Topology) {
    const REQUESTS: u32 = 50;
    let path = format!("/carts/{user}");
    let page = service.browse("GET", &path, "theme=dark", "");
    let mut kept = page.cookie().expect("a session begins").to_owned();
    for quantity in 1..=3 {
        let change = |item: u32| {
            let body = format!("{{\"quantity\": {quantity}}}");
            let answer = service.browse("PUT", &format!("{path}/items/item-{item}"), &kept, &body);
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.cookie().expect("the session has moved").to_owned()
        };
        let mut cookies: Vec<_> = std::thread::scope(|scope| {
            let requests: Vec<_> = (1..REQUESTS)
                .map(|item| scope.spawn(move || change(item)))
                .collect();
            requests
                .into_iter()
                .map(|request| request.join().unwrap())
                .collect()
        });
        topology.wait_in_sync(SOON).unwrap();
        topology.relays().for_each(|relay| relay.pause());
        cookies.push(change(0));
        fastrand::shuffle(&mut cookies);
        for cookie in &cookies {
            let seen = service.browse("GET", &path, cookie, "");
            for item in 0..REQUESTS {
                let item = format!("item-{item}");
                assert_eq!(seen.quantity(&item), Some(quantity), "{item} {seen:?}");
            }
        }
        topology.relays().for_each(|relay| relay.resume());
        cookies.truncate(1);
        kept = cookies.remove(0);
    }
}

#[test]
fn parallel_requests_of_a_browser_lose_nothing() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let key = key_file(&topology, "token-key");
    let service = Service::start(&topology, &["--token-key-file", &key, "--cookies"]);
    parallel_requests_of("ann", &service, &topology);
}

#[test]
fn two_processes_with_stickiness_lose_nothing_either() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let key = key_file(&topology, "token-key");
    let services = [(), ()].map(|()| Service::start(&topology, &["--token-key-file", &key, "--cookies"]));
    // Each of the browsers is always led to the same one.
    for (user, service) in [("ann", &services[0]), ("bob", &services[1])] {
        parallel_requests_of(user, service, &topology);
    }
    // Without stickiness the other process does not know the session, and takes it to be in doubt.
    topology.wait_in_sync(SOON).unwrap();
    topology.relays().for_each(|relay| relay.pause());
    let mine = services[0].browse("PUT", "/carts/eve/items/plums", "", "{\"quantity\": 3}");
    let seen = services[1].browse("GET", "/carts/eve", mine.cookie().unwrap(), "");
    assert_eq!(seen.quantity("plums"), Some(3), "{seen:?}");
    topology.relays().for_each(|relay| relay.resume());
}

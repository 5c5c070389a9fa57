//! Every kind of command on every kind of handle, compared with what redis-rs's own connection makes of
//! it on the same server. The outcome is `docs/COMMANDS.md`; set `HIGHWATER_BLESS=1` to write it anew.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;
mod groups;
mod report;

use std::{collections::HashSet, fmt::Write as _};

use common::{SOON, builder};
use groups::{Compare, Group, LEFT_OUT, Line, groups};
use highwater::{Client, Consistency, ErrorKind, Session};
use highwater_testkit::Topology;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value, aio::ConnectionLike};

/// How a group's commands are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One by one.
    Single,
    Pipeline,
    Atomic,
}

/// What a caller sees of a command.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Value(Value),
    /// Kind, code, and the errors in it, each with its place.
    Error(
        redis::ErrorKind,
        Option<String>,
        Option<String>,
        Vec<(usize, String)>,
    ),
    /// Refused before it was sent.
    Refused,
}

/// Which handle, in the order of the report's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handle {
    Session,
    WithoutSession,
    Dedicated,
}

const COLUMNS: [(&str, Handle, Form); 7] = [
    ("`client.with(&session)`", Handle::Session, Form::Single),
    ("its pipelines", Handle::Session, Form::Pipeline),
    ("its atomic pipelines", Handle::Session, Form::Atomic),
    ("`client.without_session()`", Handle::WithoutSession, Form::Single),
    ("`client.dedicated(&session)`", Handle::Dedicated, Form::Single),
    ("its pipelines", Handle::Dedicated, Form::Pipeline),
    ("its atomic pipelines", Handle::Dedicated, Form::Atomic),
];

/// The commands whose place in a pipeline would change what the others do there.
const SINGLE_ONLY: [&str; 2] = ["transactions by hand", "connection state"];

impl From<RedisError> for Outcome {
    fn from(error: RedisError) -> Self {
        if highwater::Error::of(&error).is_some_and(|error| error.kind() == ErrorKind::Unsupported) {
            return Self::Refused;
        }
        let (kind, code, detail) = (
            error.kind(),
            error.code().map(str::to_owned),
            error.detail().map(str::to_owned),
        );
        let listed = error.into_server_errors();
        let listed = listed
            .iter()
            .flat_map(|errors| errors.iter())
            .map(|(place, error)| (*place, error.to_string()));
        Self::Error(kind, code, detail, listed.collect())
    }
}

impl From<RedisResult<Value>> for Outcome {
    fn from(result: RedisResult<Value>) -> Self {
        match result {
            Ok(value) => Self::Value(value),
            Err(error) => error.into(),
        }
    }
}

impl Outcome {
    fn reduced(self, compare: Compare) -> Self {
        match (self, compare) {
            (Self::Value(value), Compare::Unordered) => Self::Value(sorted(value)),
            (Self::Value(value), Compare::Type) => {
                // What is left of it prints alike for all values of a type.
                let text = format!("{value:?}");
                Self::Value(Value::SimpleString(
                    text.split(['(', ' ']).next().unwrap_or_default().to_owned(),
                ))
            }
            (outcome, _) => outcome,
        }
    }
}

/// The same elements in an order of their own.
fn sorted(value: Value) -> Value {
    let sort = |values: Vec<Value>| {
        let mut values: Vec<Value> = values.into_iter().map(sorted).collect();
        values.sort_by_key(|value| format!("{value:?}"));
        values
    };
    match value {
        Value::Array(values) => Value::Array(sort(values)),
        Value::Set(values) => Value::Set(sort(values)),
        value => value,
    }
}

fn command(line: &Line) -> Cmd {
    let mut command = Cmd::new();
    command.arg(&line.arguments);
    command
}

fn pipeline(lines: &[Line], form: Form) -> Pipeline {
    let mut pipeline = redis::pipe();
    for line in lines {
        pipeline.add_command(command(line));
    }
    if form == Form::Atomic {
        pipeline.atomic();
    }
    pipeline
}

/// Runs these commands on an empty server.
async fn run(connection: &mut (impl ConnectionLike + Send), lines: &[Line], form: Form) -> Vec<Outcome> {
    for words in [&["FLUSHALL"][..], &["FUNCTION", "FLUSH"], &["SCRIPT", "FLUSH"]] {
        match Cmd::new().arg(words).exec_async(connection).await {
            // Redis 6.2 has no functions.
            Err(error) if words[0] == "FUNCTION" && error.to_string().contains("unknown command") => {}
            emptied => emptied.unwrap(),
        }
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    if form == Form::Single {
        for line in lines {
            outcomes.push(command(line).query_async::<Value>(connection).await.into());
        }
    } else {
        let mut lenient = pipeline(lines, form);
        lenient.ignore_errors();
        match lenient.query_async::<Vec<RedisResult<Value>>>(connection).await {
            Ok(results) => outcomes.extend(results.into_iter().map(Outcome::from)),
            Err(error) => outcomes.push(error.into()),
        }
    }
    outcomes
        .into_iter()
        .zip(lines)
        .map(|(outcome, line)| outcome.reduced(line.compare))
        .collect()
}

/// Runs a pipeline whose first error is the outcome of all.
async fn run_strictly(
    connection: &mut (impl ConnectionLike + Send),
    lines: &[Line],
    form: Form,
) -> Option<Outcome> {
    Cmd::new().arg("FLUSHALL").exec_async(connection).await.unwrap();
    let result = pipeline(lines, form).query_async::<Value>(connection).await;
    result.err().map(Outcome::from)
}

/// What of a group can be run in this form: queuing aborts at what the server does not know, so that the
/// rest must be tried without it.
fn applicable(lines: &[Line], plain: &[Outcome], form: Form) -> Vec<Line> {
    let aborts = |outcome: &Outcome| {
        let Outcome::Error(_, _, Some(detail), _) = outcome else {
            return false;
        };
        [
            "wrong number of arguments",
            "unknown command",
            "unknown subcommand",
        ]
        .iter()
        .any(|text| detail.contains(text))
    };
    lines
        .iter()
        .zip(plain)
        .filter(|(_, outcome)| form != Form::Atomic || !aborts(outcome))
        .map(|(line, _)| line.clone())
        .collect()
}

/// Each command's outcome, and that of all of the group as a whole, with what aborts a transaction.
type Outcomes = (Vec<Outcome>, Option<Outcome>);

async fn both(
    mut connection: impl ConnectionLike + Send,
    lines: &[Line],
    all: &[Line],
    form: Form,
) -> Outcomes {
    let outcomes = run(&mut connection, lines, form).await;
    let whole = match form {
        Form::Single => None,
        _ => run_strictly(&mut connection, all, form).await,
    };
    (outcomes, whole)
}

async fn outcomes(client: &Client, handle: Handle, lines: &[Line], all: &[Line], form: Form) -> Outcomes {
    let session = Session::new();
    match handle {
        Handle::Session => both(client.with(&session), lines, all, form).await,
        // Without a session, reads of replicas may be old: the primary's are compared.
        Handle::WithoutSession => {
            both(
                client.without_session().at(Consistency::Primary),
                lines,
                all,
                form,
            )
            .await
        }
        Handle::Dedicated => both(client.dedicated(&session).await.unwrap(), lines, all, form).await,
    }
}

/// Compares one cell: `same`, `refused`, or what differs.
async fn cell(
    client: &Client,
    plain: &Plain,
    expectations: &mut Expectations,
    group: &Group,
    handle: Handle,
    form: Form,
) -> Result<&'static str, String> {
    if form != Form::Single && SINGLE_ONLY.contains(&group.name) {
        return Ok("");
    }
    // What can't be had at all needs no comparison.
    let first = outcomes(client, handle, &group.lines[..1], &[], Form::Single)
        .await
        .0;
    if first == [Outcome::Refused] {
        for line in &group.lines {
            let alone = outcomes(client, handle, std::slice::from_ref(line), &group.lines, form)
                .await
                .0;
            let known = ["SET", "GET", "LPUSH", "NONSENSE", "CLIENT ID"].contains(&line.name().as_str());
            if alone != [Outcome::Refused] && !known {
                return Err(format!("{} is not refused: {alone:?}", line.name()));
            }
        }
        return Ok("refused");
    }
    let Expected {
        lines,
        outcomes: (expected, expected_strictly),
    } = expectations.of(plain, group, form).await;
    let (seen, seen_strictly) = outcomes(client, handle, lines, &group.lines, form).await;
    let mut differences = String::new();
    for (place, expected) in expected.iter().enumerate() {
        let seen = seen.get(place);
        if seen != Some(expected) {
            let shortened = |text: String| text.chars().take(300).collect::<String>();
            let _ = writeln!(
                differences,
                "{}: expected {}, seen {}",
                lines[place].name(),
                shortened(format!("{expected:?}")),
                shortened(format!("{seen:?}")),
            );
        }
    }
    if seen.len() != expected.len() {
        let _ = writeln!(
            differences,
            "{} replies instead of {}",
            seen.len(),
            expected.len()
        );
    }
    if seen_strictly != *expected_strictly {
        let _ = writeln!(
            differences,
            "as a whole: expected {expected_strictly:?}, seen {seen_strictly:?}"
        );
    }
    if differences.is_empty() {
        Ok("same")
    } else {
        Err(differences)
    }
}

/// redis-rs's own connections, speaking RESP3.
struct Plain(redis::Client);

impl Plain {
    fn new(topology: &Topology) -> Self {
        Self(redis::Client::open(format!("{}?protocol=resp3", topology.primary().url())).unwrap())
    }

    async fn outcomes(&self, lines: &[Line], all: &[Line], form: Form) -> Outcomes {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = self
            .0
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap();
        both(connection, lines, all, form).await
    }

    async fn single(&self, group: &Group) -> Vec<Outcome> {
        self.outcomes(&group.lines, &[], Form::Single).await.0
    }
}

/// What is expected of a group in one form, whatever the handle.
struct Expected {
    lines: Vec<Line>,
    outcomes: Outcomes,
}

/// What is expected of one group, in the forms that have been asked for.
#[derive(Default)]
struct Expectations {
    single: Option<Vec<Outcome>>,
    known: Vec<(Form, Expected)>,
}

impl Expectations {
    async fn of(&mut self, plain: &Plain, group: &Group, form: Form) -> &Expected {
        let place = match self.known.iter().position(|(known, _)| *known == form) {
            Some(place) => place,
            None => {
                if self.single.is_none() {
                    self.single = Some(plain.single(group).await);
                }
                let single = self.single.as_deref().unwrap_or_default();
                let lines = applicable(&group.lines, single, form);
                let outcomes = plain.outcomes(&lines, &group.lines, form).await;
                self.known.push((form, Expected { lines, outcomes }));
                self.known.len() - 1
            }
        };
        &self.known[place].1
    }
}

#[test]
fn no_command_of_the_server_is_forgotten() {
    let topology = Topology::builder().start().unwrap();
    let compared: HashSet<String> = groups()
        .iter()
        .flat_map(|group| &group.lines)
        .map(|line| String::from_utf8_lossy(&line.arguments[0]).to_ascii_uppercase())
        .chain(LEFT_OUT.split_whitespace().map(str::to_owned))
        .collect();
    let known = topology.primary().command(&["COMMAND"]).unwrap();
    let known: Vec<String> = known
        .array()
        .unwrap()
        .iter()
        .filter_map(|command| Some(command.array()?.first()?.text()?.to_ascii_uppercase()))
        .collect();
    assert!(known.len() > 200);
    let forgotten: Vec<_> = known.iter().filter(|name| !compared.contains(*name)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_command_answers_as_on_redis_rs_own_connection() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    // On a busy machine a server takes its time over replies of many megabytes.
    let client = builder(&topology).response_timeout(SOON).connect().await.unwrap();
    let plain = Plain::new(&topology);
    let mut rows = Vec::new();
    let mut failures = String::new();
    for group in groups() {
        let mut cells = Vec::new();
        let mut expectations = Expectations::default();
        for (name, handle, form) in COLUMNS {
            match cell(&client, &plain, &mut expectations, &group, handle, form).await {
                Ok(cell) => cells.push(cell),
                Err(difference) => {
                    let _ = writeln!(
                        failures,
                        "{} on {name} ({handle:?}, {form:?}):\n{difference}",
                        group.name
                    );
                    cells.push("differs");
                }
            }
        }
        rows.push((group, cells));
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(
        client.status().reads.iter().any(|count| count.route == "replica"),
        "replicas took part"
    );
    report::check(&rows);
}

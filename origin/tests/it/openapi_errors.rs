//! The examples of errors in the API's description are what the service answers, each and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    openapi::{app, document, operations},
    raw::Raw,
    support::{Answer, TestApp, execute, fixture},
};

/// A key is stored when nobody holds this lock.
const SLOW_KEYS: &str = "
  create function service.wait() returns trigger language plpgsql as
    $$ begin perform pg_advisory_xact_lock_shared(4711); return new; end $$;
  create trigger wait before insert on service.idempotency_keys for each row execute function service.wait();";
const WAITING: &str = "select count(*) from pg_locks where objid = 4711 and not granted
    and database = (select oid from pg_database where datname = current_database())";

const PROBLEM: (&str, &str) = ("accept", "application/problem+json");
const KEY: &str = "idempotency-key";
const TOKEN: (&str, &str) = ("authorization", "t");

/// What an answer is, as an example would show it.
type Shown = (u16, String, String);

fn shown(status: u16, media_type: &str, body: &Value) -> Shown {
    (status, media_type.to_owned(), body.to_string())
}

/// An operation that is sent everything that it refuses.
struct Tormented<'a> {
    app: &'a TestApp,
    method: String,
    path: &'a str,
    example: Value,
    got: BTreeSet<Shown>,
}

impl Tormented<'_> {
    fn note(&mut self, answer: &Answer) {
        if answer.status.as_u16() < 400 {
            return;
        }
        let essence = answer
            .field("content-type")
            .split(';')
            .next()
            .unwrap_or_default()
            .to_owned();
        let body = if essence == "text/plain" {
            answer.text().into()
        } else {
            answer.json()
        };
        self.got
            .insert(shown(answer.status.as_u16(), &essence, &body));
    }

    /// Sends a request twice: for the text and for the problem.
    async fn send(&mut self, id: &str, fields: &[(&str, &str)], body: &str) {
        let path: Vec<_> = self
            .path
            .split('/')
            .map(|part| if part.starts_with('{') { id } else { part })
            .collect();
        let path = path.join("/");
        for accept in [("accept", "*/*"), PROBLEM] {
            let fields = [fields, &[accept]].concat();
            let answer = self
                .app
                .send(&self.method, &path, &fields, body.to_owned())
                .await;
            self.note(&answer);
        }
    }

    /// Sends the rest of a head, and a body, over a connection of its own.
    async fn send_raw(&mut self, rest: &str) {
        let mut path = self.path.to_owned();
        if let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, "2");
        }
        let mut raw = Raw::connect(self.app.address).await;
        let head = format!("{} {path} HTTP/1.1\r\nhost: o\r\n", self.method);
        raw.send(head + rest).await;
        let answer = raw.answer().await;
        let body: Value = serde_json::from_slice(&answer.body).expect("a problem");
        let media_type = answer.field("content-type");
        let shown = shown(answer.status.as_u16(), media_type, &body);
        self.got.insert(shown);
    }

    async fn send_everything_bad(&mut self) {
        let example = self.example.to_string();
        let bytes_max = match (self.method.as_str(), self.path) {
            ("POST", "/interactions") => 64 * 1024,
            ("POST", _) => 1024 * 1024,
            _ => 64 * 1024,
        };
        let too_large = format!("content-length: {}\r\n\r\n", bytes_max + 1);
        self.send_raw(&too_large).await;
        let ends_early = "transfer-encoding: chunked\r\n\r\nno length\r\n";
        self.send_raw(ends_early).await;
        if self.path.contains('{') {
            self.send("x", &[], "").await;
            self.send("99999999", &[], &example).await;
        }
        if self.method != "POST" {
            self.send("2", &[], "").await;
            return;
        }
        self.send("2", &[("content-type", "text/html")], "").await;
        self.send("2", &[], "{").await;
        self.send("2", &[(KEY, "")], "{}").await;
        self.send("2", &[], "{}").await;
        for field in ["product_id", "sku_id"] {
            if self.example.get(field).is_some() {
                let mut unknown = self.example.clone();
                unknown[field] = 99_999_999.into();
                self.send("2", &[], &unknown.to_string()).await;
            }
        }
        self.send("2", &[(KEY, "reused"), TOKEN], &example).await;
        self.send("2", &[(KEY, "reused"), TOKEN], &format!(" {example}"))
            .await;
        self.send_while_running(&example).await;
    }

    /// The first request passes the gate, and waits to store its key.
    async fn send_while_running(&mut self, example: &str) {
        let mut owner = self.app.owner().await;
        execute(&mut owner, "select pg_advisory_lock(4711)").await;
        let path = self.path.replace("{question_id}", "2");
        let fields = [(KEY, "running"), TOKEN];
        let app = self.app;
        let first = app.send("POST", &path, &fields, example.to_owned());
        let others = async {
            TestApp::until("the first request waits", async || {
                app.value::<i64>(WAITING).await > 0
            })
            .await;
            self.send("2", &fields, example).await;
            execute(&mut owner, "select pg_advisory_unlock(4711)").await;
        };
        let (first, ()) = tokio::join!(first, others);
        assert_eq!(first.status, 201, "{path}");
    }
}

/// The examples of a response.
fn examples(status: u16, response: &Value) -> BTreeSet<Shown> {
    let content = response["content"].as_object().unwrap();
    content
        .iter()
        .flat_map(|(media_type, content)| {
            let examples = content["examples"].as_object().unwrap().values();
            examples.map(move |example| shown(status, media_type, &example["value"]))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_refuses_with_exactly_the_examples_of_its_errors() {
    let app = app().await;
    app.sql(SLOW_KEYS).await;
    let document = document();
    for (path, method, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        let mut tormented = Tormented {
            app: &app,
            method: method.to_uppercase(),
            path,
            example: content["example"].clone(),
            got: BTreeSet::new(),
        };
        tormented.send_everything_bad().await;
        let responses = operation["responses"].as_object().unwrap().iter();
        let own = responses.filter(|(status, response)| {
            status.as_str() >= "400" && response.get("$ref").is_none()
        });
        let expected: BTreeSet<_> = own
            .flat_map(|(status, response)| examples(status.parse().unwrap(), response))
            .collect();
        assert_eq!(tormented.got, expected, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_errors_of_any_operation_are_as_their_examples_say() {
    let settings = [
        "--statement-timeout-ms=100",
        "--statement-deadline-ms=200",
        "--request-timeout-ms=300",
    ];
    let app = TestApp::start_with(&[fixture::REVIEWS_WITH_TIES], &settings).await;
    let document = document();
    let assert_shown = |name: &str, answer: &Shown| {
        let response = &document["components"]["responses"][name];
        let examples = examples(answer.0, response);
        assert!(
            examples.contains(answer),
            "{name}: {answer:?} is none of {examples:?}"
        );
    };
    app.sql("alter table service.interactions add constraint never check (false) not valid")
        .await;
    let interaction = json!({ "element": "e", "widget": "w", "time": 1 });
    for (name, answer) in [
        ("NotFound", app.get("/nowhere").await),
        (
            "MethodNotAllowed",
            app.send("DELETE", "/reviews", &[], "").await,
        ),
        (
            "UriTooLong",
            app.get(&format!("/products?{}", "x".repeat(9000))).await,
        ),
        (
            "InternalError",
            app.post("/interactions", &interaction).await,
        ),
        ("ServiceUnavailable", {
            app.sql("alter table shop.reviews rename to moved").await;
            app.get("/reviews?product_id=2").await
        }),
    ] {
        let status = answer.status.as_u16();
        assert_shown(
            name,
            &shown(status, answer.field("content-type"), &answer.json()),
        );
    }
    let mut raw = Raw::connect(app.address).await;
    raw.send("PUT /reviews/5/helpful HTTP/1.1\r\nhost: o\r\ncontent-length: 9\r\n\r\n{")
        .await;
    let late = raw.answer().await;
    let body: Value = serde_json::from_slice(&late.body).unwrap();
    assert_shown("Timeout", &shown(504, late.field("content-type"), &body));
    // The others are said by gateways only.
    let names: BTreeSet<_> = document["components"]["responses"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let expected = [
        "BadGateway",
        "InternalError",
        "MethodNotAllowed",
        "NotFound",
        "RateLimited",
        "ServiceUnavailable",
        "Timeout",
        "Unauthorized",
        "UriTooLong",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
}

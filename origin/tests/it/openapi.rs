//! The API's description: complete, valid, true, and served.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    described::{self, assert_valid},
    support::{Answer, TestApp, fixture},
};

pub(crate) fn document() -> Value {
    origin::openapi::document("https://shop.example")
}

/// The described operations: path, method, operation.
pub(crate) fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item
                .as_object()
                .unwrap()
                .iter()
                .filter(|(key, _)| *key != "parameters");
            methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

/// Follows a reference, if it is one.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(name) => {
            let place = name
                .strip_prefix('#')
                .expect("a reference within the document");
            document
                .pointer(place)
                .unwrap_or_else(|| panic!("nothing at {name}"))
        }
        None => value,
    }
}

/// Calls with every value of the document, and its place.
fn walk(value: &Value, place: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(place, value);
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                walk(inner, &format!("{place}/{}", escape(key)), visit);
            }
        }
        Value::Array(items) => {
            for (at, inner) in items.iter().enumerate() {
                walk(inner, &format!("{place}/{at}"), visit);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_route_and_method_is_described_and_nothing_else() {
    let app = TestApp::start(&[]).await;
    let document = document();
    let mut described: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in operations(&document) {
        described
            .entry(path)
            .or_default()
            .insert(method.to_uppercase());
    }
    let routes: BTreeSet<_> = origin::routes::all()
        .iter()
        .map(|route| route.path)
        .collect();
    assert_eq!(described.keys().copied().collect::<BTreeSet<_>>(), routes);
    for (path, methods) in described {
        let sample = path.split('/').map(|segment| {
            if segment.starts_with('{') {
                "1"
            } else {
                segment
            }
        });
        let sample = sample.collect::<Vec<_>>().join("/");
        let refused = app.send("DELETE", &sample, &[], "").await;
        let allowed = refused
            .field("allow")
            .split(',')
            .filter(|method| *method != "HEAD");
        assert_eq!(
            allowed.map(str::to_owned).collect::<BTreeSet<_>>(),
            methods,
            "{path}"
        );
    }
}

#[test]
fn the_document_is_openapi_3_1() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    assert_eq!(document["servers"][0]["url"], "https://shop.example");
    walk(&document, "", &mut |place, value| {
        if let Some(name) = value["$ref"].as_str() {
            assert_ne!(resolve(&document, value), &Value::Null, "{name} at {place}");
        }
        // Patterns and bounds of a type that a schema does not have would say nothing.
        if value["pattern"].is_string() && value.get("type").is_some() {
            assert!(value["type"].to_string().contains("string"), "{place}");
        }
    });
    let tags = document["tags"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = format!("{method} {path}");
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap()),
            "{name}: repeated id"
        );
        assert!(operation["summary"].is_string(), "{name}");
        assert!(
            tags.iter().any(|tag| tag["name"] == operation["tags"][0]),
            "{name}"
        );
        assert_eq!(
            operation["requestBody"].is_object(),
            method == "post",
            "{name}"
        );
        let item = &document["paths"][path]["parameters"];
        let parameters = [item, &operation["parameters"]]
            .into_iter()
            .filter_map(Value::as_array)
            .flatten();
        let mut seen = BTreeSet::new();
        for parameter in parameters.map(|parameter| resolve(&document, parameter)) {
            let (place, name) = (
                parameter["in"].as_str().unwrap(),
                parameter["name"].as_str().unwrap(),
            );
            assert!(seen.insert((place, name)), "{path}: {name} twice");
            assert!(parameter["schema"].is_object() && parameter["description"].is_string());
            assert!(place != "path" || parameter["required"] == true);
        }
        let in_path = seen
            .iter()
            .filter(|(place, _)| *place == "path")
            .map(|(_, name)| format!("{{{name}}}"));
        let in_pattern = path
            .split('/')
            .filter(|segment| segment.starts_with('{'))
            .map(str::to_owned);
        assert_eq!(in_path.collect::<BTreeSet<_>>(), in_pattern.collect());
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(
                status
                    .parse::<u16>()
                    .is_ok_and(|status| (200..600).contains(&status))
            );
            assert!(
                resolve(&document, response)["description"].is_string(),
                "{name} {status}"
            );
        }
    }
}

#[test]
fn every_example_is_what_its_schema_says() {
    let document = document();
    let mut checked = 0;
    walk(&document, "", &mut |place, value| {
        if !value["schema"].is_object() {
            return;
        }
        // The example of a field is text, whatever is in it.
        let example = |value: &Value| match value.as_str() {
            Some(text) if place.contains("/headers/") => text
                .parse::<u64>()
                .map_or_else(|_| text.into(), Value::from),
            Some(_) | None => value.clone(),
        };
        let several = value["examples"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, one)| &one["value"]);
        for one in value.get("example").into_iter().chain(several) {
            assert_valid(&format!("{place}/schema"), &example(one));
            checked += 1;
        }
        assert!(
            value.get("example").is_some() || value.get("examples").is_some(),
            "no example at {place}"
        );
    });
    assert!(checked > 200, "{checked}");
}

#[test]
fn every_field_of_a_body_is_described_by_the_rule_that_reads_it() {
    fn fields<T: origin::extract::FromObject>() -> BTreeSet<&'static str> {
        let rules = origin::describe::body::rules::<T>();
        let fields: BTreeSet<_> = rules.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            fields,
            T::FIELDS.iter().copied().collect(),
            "{:?}",
            T::ENTITY
        );
        fields
    }
    let document = document();
    for (path, expected) in [
        ("/reviews", fields::<origin::reviews::model::NewReview>()),
        (
            "/qa/questions",
            fields::<origin::questions::model::NewQuestion>(),
        ),
        (
            "/qa/questions/{question_id}/answers",
            fields::<origin::answers::model::NewAnswer>(),
        ),
        ("/cart", fields::<origin::cart::model::NewItem>()),
        (
            "/interactions",
            fields::<origin::interactions::model::NewInteraction>(),
        ),
    ] {
        let schema = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            ["schema"];
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(
            properties
                .keys()
                .map(String::as_str)
                .collect::<BTreeSet<_>>(),
            expected,
            "{path}"
        );
        for (name, property) in properties {
            assert!(
                property["description"].is_string(),
                "{path}: nothing is said about {name}"
            );
        }
    }
}

/// What the examples are about.
const EXISTING: &str = "
  insert into shop.questions (id, product_id, body, date, asker_name, asker_email, reported, helpfulness) values
    (2, 2, '', now(), '', '', false, 0);
  insert into shop.styles (id, product_id, name, original_price, is_default) values (1, 5, '', 1, true);
  insert into shop.skus (id, style_id, size, quantity) values (37, 1, 'S', 1);";

pub(crate) async fn app() -> TestApp {
    TestApp::start(&[
        fixture::REVIEWS_WITH_TIES,
        fixture::QUESTIONS_WITH_ANSWERS,
        EXISTING,
    ])
    .await
}

#[tokio::test]
async fn every_example_of_a_body_is_accepted() {
    let app = app().await;
    let document = document();
    let mut accepted = 0;
    for (path, method, operation) in operations(&document) {
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        if method == "post" {
            let created = app.post(&path.replace("{question_id}", "2"), example).await;
            assert_eq!(created.status, 201, "{path}: {created:?}");
            accepted += 1;
        }
    }
    assert_eq!(accepted, 5);
}

#[tokio::test]
async fn an_answer_that_is_not_as_described_is_noticed() {
    let app = app().await;
    let path = "/reviews?product_id=2";
    let good = app.get(path).await;
    assert_eq!(described::check("GET", path, &good), Ok(()));
    let with_body = |change: fn(&mut Value)| {
        let mut body = good.json();
        change(&mut body);
        Answer {
            body: body.to_string().into(),
            ..good.clone()
        }
    };
    let with_field = |name: &'static str, value: &'static str| {
        let mut answer = good.clone();
        answer
            .headers
            .insert(name, http::HeaderValue::from_static(value));
        answer
    };
    let mut without_etag = good.clone();
    without_etag.headers.remove("etag");
    for bad in [
        with_body(|body| body["page"] = "0".into()),
        with_body(|body| body["results"][0]["rating"] = 6.into()),
        with_body(|body| body["results"][0]["reviewer_email"] = "a@b.c".into()),
        with_body(|body| body["results"][0]["date"] = "2019-04-14".into()),
        with_body(|body| {
            body.as_object_mut().unwrap().remove("count");
        }),
        with_field("cache-control", "no-cache"),
        with_field("content-type", "text/html"),
        with_field("x-powered-by", "axum"),
        without_etag,
        Answer {
            status: http::StatusCode::ACCEPTED,
            ..good.clone()
        },
    ] {
        assert!(described::check("GET", path, &bad).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn the_document_is_served_to_operators_and_names_the_address_of_the_api() {
    let app = TestApp::start(&[]).await;
    for _ in 0..2 {
        let served = app.get_private("/openapi.json").await;
        assert_eq!(served.status, 200);
        assert_eq!(
            served.field("content-type"),
            "application/json; charset=utf-8"
        );
        assert_eq!(
            served.json(),
            origin::openapi::document(&format!("http://{}", app.address))
        );
    }
    assert_eq!(app.get("/openapi.json").await.status, 404);
    let app = TestApp::start_with(&[], &["--public-url=https://shop.example/api"]).await;
    let served = app.get_private("/openapi.json").await.json();
    assert_eq!(
        served["servers"],
        json!([{ "url": "https://shop.example/api" }])
    );
}

#[tokio::test]
async fn the_pages_come_with_the_program_and_load_nothing_from_elsewhere() {
    let app = TestApp::start(&[]).await;
    for path in ["/docs", "/docs/"] {
        let redirect = app.get_private(path).await;
        assert_eq!(
            (redirect.status.as_u16(), redirect.field("location")),
            (303, "/docs/index.html")
        );
    }
    let page = app.get_private("/docs/index.html").await;
    let html = inflated(&page);
    assert_eq!(page.field("content-type"), "text/html");
    assert!(!html.contains("//"), "something from elsewhere: {html}");
    let mut parts = 0;
    for attribute in ["src=\"", "href=\""] {
        for part in html.split(attribute).skip(1) {
            let name = part.split('"').next().unwrap().trim_start_matches("./");
            let file = app.get_private(&format!("/docs/{name}")).await;
            assert_eq!(file.status, 200, "{name}");
            assert!(!file.body.is_empty(), "{name}");
            parts += 1;
        }
    }
    assert!(parts >= 5, "{html}");
    let settings = app.get_private("/docs/swagger-initializer.js").await;
    let settings = settings.text();
    assert!(settings.contains(r#""url": "/openapi.json""#), "{settings}");
    assert!(settings.contains(r#""validatorUrl": "none""#), "{settings}");
    assert_eq!(app.get_private("/docs/nothing.js").await.status, 404);
    assert_eq!(app.get("/docs").await.status, 404);
}

/// The text of a file that may have been sent compressed.
fn inflated(answer: &Answer) -> String {
    if answer.field("content-encoding").is_empty() {
        return answer.text().to_owned();
    }
    let mut gunzip = std::process::Command::new("gzip")
        .arg("-dc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut gunzip.stdin.take().unwrap(), &answer.body).unwrap();
    String::from_utf8(gunzip.wait_with_output().unwrap().stdout).unwrap()
}

//! `openapi.json` says what the routes do, and answers are what it says.

use std::collections::BTreeSet;

use super::*;
use crate::admin::routes::{OPENAPI, ROUTES};

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn it_names_exactly_the_routes() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "parameters")
        {
            described.insert((method.clone(), path.clone()));
        }
    }
    let routed: BTreeSet<_> = ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.to_owned()))
        .collect();
    assert_eq!(routed.len(), ROUTES.len(), "a route is there twice");
    assert_eq!(described, routed);
}

#[test]
fn operations_are_complete_and_references_lead_somewhere() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(k, _)| *k != "parameters")
        {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} twice");
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert!(
                !operation["responses"].as_object().unwrap().is_empty(),
                "{method} {path}"
            );
        }
    }
    let mut used = BTreeSet::new();
    references(&document, &mut used);
    let schemas: BTreeSet<String> = document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        used, schemas,
        "schemas that are used and schemas that there are"
    );
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                found.insert(
                    reference
                        .strip_prefix("#/components/schemas/")
                        .unwrap()
                        .to_owned(),
                );
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn it_is_served() {
    let served = Served::start().await;
    assert_eq!(served.get("/openapi.json").await.json(), document());
}

#[tokio::test]
async fn answers_are_what_it_says() {
    let served = Served::start().await;
    let new = json!({"name": "a", "partitions": 2, "configs": {"segment.ms": "1d"}});
    let created = served.create(&new).await;
    conforms(&new, "NewTopic");
    conforms(&created.json(), "CreatedTopic");
    let again = served.create(&new).await;
    conforms(&again.json(), "Error");
    for (path, schema) in [
        ("/healthz", "Health"),
        ("/readyz", "Readiness"),
        ("/v1/cluster", "Cluster"),
        ("/v1/cluster/quorum", "Quorum"),
        ("/v1/cluster/moves", "Moves"),
        ("/v1/topics", "Topics"),
        ("/v1/topics/a", "Topic"),
        ("/v1/topics/b", "Error"),
        ("/nothing", "Error"),
    ] {
        conforms(&served.get(path).await.json(), schema);
    }
    served.backend.be(ReadinessView {
        status: Status::Recovering,
        waits_for: Some("a seed".to_owned()),
        recovery: Some(RecoveryView {
            partitions_done: 0,
            partitions_total: 1,
        }),
        partitions_offline: 0,
        disk_is_low: false,
    });
    conforms(&served.get("/readyz").await.json(), "Readiness");
}

fn conforms(value: &Value, schema: &str) {
    let document = document();
    let schemas = &document["components"]["schemas"];
    check(value, &schemas[schema], schemas, schema);
}

/// As much of JSON Schema as the document uses.
fn check(value: &Value, schema: &Value, schemas: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return check(value, &schemas[name], schemas, at);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => panic!("{at} has no type"),
    };
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(
        types.contains(&actual),
        "{at}: {actual} is none of {types:?}"
    );
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{at}: {value}");
    }
    if let Some(items) = value.as_array() {
        for (place, item) in items.iter().enumerate() {
            check(item, &schema["items"], schemas, &format!("{at}[{place}]"));
        }
    }
    let Some(object) = value.as_object() else {
        return;
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(
            object.contains_key(required.as_str().unwrap()),
            "{at} lacks {required}"
        );
    }
    for (key, value) in object {
        let at = format!("{at}.{key}");
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Object(_)) => {
                check(value, &schema["additionalProperties"], schemas, &at);
            }
            (Value::Null, _) => panic!("{at} is not described"),
            (schema, _) => check(value, schema, schemas, &at),
        }
    }
}

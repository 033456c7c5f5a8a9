//! The one table of routes and what each does.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::TopicName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::{AdminBackend, AdminError, NewTopic, Status};
use crate::metrics;

/// How many answers that can be large are put together at a time.
const LARGE_ANSWERS_MAX: usize = 2;

/// The description of this API that clients can ask for.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// What every handler has.
pub(super) struct App {
    pub(super) backend: Arc<dyn AdminBackend>,
    pub(super) request_timeout: Duration,
    request_bytes_max: usize,
    large_answers: Semaphore,
}

/// A row of the table.
pub(super) struct Route {
    /// Lower case, as OpenAPI has it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the test of openapi.json reads it")
    )]
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    handler: fn() -> MethodRouter<Arc<App>>,
}

/// Every route.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "get",
        path: "/healthz",
        handler: || get(health),
    },
    Route {
        method: "get",
        path: "/readyz",
        handler: || get(ready),
    },
    Route {
        method: "get",
        path: "/metrics",
        handler: || get(metrics_text),
    },
    Route {
        method: "get",
        path: "/openapi.json",
        handler: || get(openapi),
    },
    Route {
        method: "get",
        path: "/v1/cluster",
        handler: || get(cluster),
    },
    Route {
        method: "get",
        path: "/v1/cluster/quorum",
        handler: || get(quorum),
    },
    Route {
        method: "get",
        path: "/v1/cluster/moves",
        handler: || get(moves),
    },
    Route {
        method: "get",
        path: "/v1/topics",
        handler: || get(topics),
    },
    Route {
        method: "post",
        path: "/v1/topics",
        handler: || post(create_topic),
    },
    Route {
        method: "get",
        path: "/v1/topics/{name}",
        handler: || get(topic),
    },
    Route {
        method: "delete",
        path: "/v1/topics/{name}",
        handler: || delete(delete_topic),
    },
];

/// The router of the table.
pub(super) fn router(
    backend: Arc<dyn AdminBackend>,
    request_timeout: Duration,
    request_bytes_max: usize,
) -> Router {
    let large_answers = Semaphore::new(LARGE_ANSWERS_MAX);
    let app = Arc::new(App {
        backend,
        request_timeout,
        request_bytes_max,
        large_answers,
    });
    let table = ROUTES.iter().fold(Router::new(), |router, route| {
        router.route(route.path, (route.handler)())
    });
    table
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(request_bytes_max))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app)
}

impl App {
    fn check_serving(&self) -> Result<(), AdminError> {
        match self.backend.readiness().status {
            // What a broker knows is wanted most when it is cut off.
            Status::Serving | Status::Fenced => Ok(()),
            Status::Starting | Status::Joining | Status::Recovering => Err(AdminError::of_http(
                StatusCode::SERVICE_UNAVAILABLE,
                "NotReady",
                "the broker is starting",
            )
            .hint("GET /readyz tells how far it is")),
            Status::Stopping => Err(AdminError::of_broker(
                ErrorCode::ShuttingDown,
                "the broker is stopping",
            )),
        }
    }

    /// Asks the backend something whose answer can be large, on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn AdminBackend) -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        let failed = |_| AdminError::of_broker(ErrorCode::Internal, "the broker cannot answer");
        let _permit = self.large_answers.acquire().await.map_err(|_| failed(()))?;
        let backend = Arc::clone(&self.backend);
        let asked = tokio::task::spawn_blocking(move || question(&*backend));
        asked.await.map_err(|_| failed(()))
    }
}

/// What holds for every request: it has its time, and no web page makes changes.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && request.headers().contains_key(header::ORIGIN) {
        // Only browsers send it. A page from anywhere could otherwise reach what listens on the
        // loopback address of its reader's machine.
        let message = "requests that change something are not taken from web pages";
        return AdminError::of_http(StatusCode::FORBIDDEN, "CrossOrigin", message).into_response();
    }
    match tokio::time::timeout(app.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = "the request did not arrive or could not be answered in time";
            let error = AdminError::of_http(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
                .hint("admin.request.timeout is the limit; what was begun goes on");
            // What is left of the request would be taken for the next one.
            ([(header::CONNECTION, "close")], error).into_response()
        }
    }
}

async fn health() -> Response {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
    }
    Json(Health { status: "ok" }).into_response()
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let readiness = app.backend.readiness();
    let status = match readiness.status {
        Status::Serving => StatusCode::OK,
        Status::Starting
        | Status::Joining
        | Status::Recovering
        | Status::Fenced
        | Status::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness)).into_response()
}

async fn metrics_text(State(app): State<Arc<App>>) -> Result<Response, AdminError> {
    let text = app.ask(<dyn AdminBackend>::metrics).await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn cluster(State(app): State<Arc<App>>) -> Result<Response, AdminError> {
    app.check_serving()?;
    Ok(Json(app.backend.cluster().await?).into_response())
}

async fn quorum(State(app): State<Arc<App>>) -> Result<Response, AdminError> {
    app.check_serving()?;
    Ok(Json(app.backend.quorum().await?).into_response())
}

async fn moves(State(app): State<Arc<App>>) -> Result<Response, AdminError> {
    app.check_serving()?;
    Ok(Json(app.backend.moves().await?).into_response())
}

async fn topics(State(app): State<Arc<App>>) -> Result<Response, AdminError> {
    #[derive(Serialize)]
    struct Topics {
        topics: Vec<super::TopicSummary>,
    }
    app.check_serving()?;
    let topics = app.ask(<dyn AdminBackend>::topics).await?;
    Ok(Json(Topics { topics }).into_response())
}

async fn topic(State(app): State<Arc<App>>, name: TopicPath) -> Result<Response, AdminError> {
    app.check_serving()?;
    let name = name?.0;
    let asked = name.clone();
    match app.ask(move |backend| backend.topic(&asked)).await? {
        Some(topic) => Ok(Json(topic).into_response()),
        None => Err(unknown_topic(&name)),
    }
}

async fn create_topic(
    State(app): State<Arc<App>>,
    topic: Result<JsonBody<NewTopic>, AdminError>,
) -> Result<Response, AdminError> {
    app.check_serving()?;
    let JsonBody(topic) = topic?;
    let validate_only = topic.validate_only;
    let created = app.backend.create_topic(topic).await?;
    if validate_only {
        return Ok(Json(created).into_response());
    }
    // Names of topics need no escaping in a path.
    let location = HeaderValue::from_str(&format!("/v1/topics/{}", created.name));
    let mut response = (StatusCode::CREATED, Json(created)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn delete_topic(
    State(app): State<Arc<App>>,
    name: TopicPath,
) -> Result<Response, AdminError> {
    app.check_serving()?;
    app.backend.delete_topic(name?.0).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn not_found(request: Request) -> AdminError {
    let message = format!("there is nothing at {}", shown(request.uri().path()));
    AdminError::of_http(StatusCode::NOT_FOUND, "NotFound", message)
        .hint("GET /openapi.json tells what there is")
}

async fn method_not_allowed(request: Request) -> AdminError {
    let (method, path) = (request.method().as_str(), request.uri().path());
    let message = format!("{} does not work on {}", shown(method), shown(path));
    AdminError::of_http(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}

fn unknown_topic(name: &str) -> AdminError {
    let message = format!("there is no topic {name}");
    AdminError::of_broker(ErrorCode::UnknownTopicOrPartition, message)
}

/// Text from outside, fit for a message.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    text.chars()
        .take(CHARACTERS_MAX)
        .flat_map(char::escape_debug)
        .collect()
}

/// The name of a topic out of the path.
type TopicPath = Result<ValidName, AdminError>;

struct ValidName(String);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for ValidName {
    type Rejection = AdminError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, AdminError> {
        let name: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let Path(name) = name.map_err(|error| {
            AdminError::of_broker(ErrorCode::InvalidTopic, shown(&error.body_text()))
        })?;
        match TopicName::new(&name) {
            Ok(_) => Ok(Self(name)),
            Err(error) => Err(AdminError::of_broker(
                ErrorCode::InvalidTopic,
                shown(&error.to_string()),
            )),
        }
    }
}

/// A body in JSON, with errors like ours.
struct JsonBody<T>(T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, AdminError> {
        let too_large = || {
            let message = format!(
                "the body is larger than admin.request.bytes.max, {}",
                app.request_bytes_max
            );
            AdminError::of_http(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", message)
        };
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_json = content_type
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                let essence = value.split(';').next().unwrap_or_default();
                essence.trim().eq_ignore_ascii_case("application/json")
            });
        if !is_json {
            let message = "the body must be JSON, and say so: Content-Type: application/json";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(AdminError::of_http(status, "UnsupportedMediaType", message));
        }
        // What is announced as too large is not waited for.
        if request.body().size_hint().lower() > app.request_bytes_max as u64 {
            return Err(too_large());
        }
        let body: Result<Bytes, BytesRejection> = Bytes::from_request(request, app).await;
        let body = body.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            status => AdminError::of_http(status, "MalformedBody", shown(&error.body_text())),
        })?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            let message = shown(&error.to_string());
            AdminError::of_http(StatusCode::BAD_REQUEST, "MalformedBody", message)
                .hint("GET /openapi.json tells what the body may have")
        })
    }
}

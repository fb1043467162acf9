//! The admin interface: HTTP on a Unix socket, metrics also on TCP where configured.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`](super::status::Status) as JSON |
//! | `POST /v1/reload` | [`ReloadOutcome`] as JSON; 200 when in force, 422 when refused |
//! | `POST /v1/explain` | a [`Probe`] in, its [`Explanation`] out; 422 when it cannot be answered |
//! | `POST /v1/flows` | a [`FlowsQuery`] in, a [`FlowsAnswer`] out |
//! | `GET /metrics` | OpenMetrics text |
//!
//! Handlers only pass a request to the control loop and wait for its answer: the loop alone owns
//! the state.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use super::explain::Explanation;
use super::flows::{FlowsAnswer, FlowsQuery};
use super::metrics;
use super::probe::Probe;
use super::status::Status;

/// What the control loop is asked.
#[derive(Debug)]
pub enum Request {
    /// The present status.
    Status(oneshot::Sender<Status>),
    /// Read the policies again.
    Reload(oneshot::Sender<ReloadOutcome>),
    /// Which flows are there? Perhaps to forget them.
    Flows(FlowsQuery, oneshot::Sender<FlowsAnswer>),
    /// Why is this packet allowed or denied?
    Explain(Box<Probe>, oneshot::Sender<Result<Explanation, String>>),
}

/// What became of a reload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReloadOutcome {
    /// Is the policy of the directory, as read now, in force?
    pub in_force: bool,
    /// Generation in force now.
    pub generation: u32,
    /// Errors of a refused policy, or warnings of one in force; one line each.
    pub findings: Vec<String>,
}

/// Why the admin interface cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another instance answers on the socket.
    #[error("admin socket {0}: another instance is running (portcullis status --socket {0})")]
    InUse(PathBuf),
    /// The socket cannot be made.
    #[error("admin socket {path}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The metrics address cannot be bound.
    #[error("metrics address {address}: {source}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
}

type Requests = mpsc::Sender<Request>;

/// Binds the Unix socket, replacing one that a dead process left behind.
pub fn bind(path: &Path, mode: u32) -> Result<UnixListener, AdminError> {
    let error = |source| AdminError::Socket {
        path: path.to_owned(),
        source,
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(AdminError::InUse(path.to_owned()));
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(error)?;
    }
    let listener = UnixListener::bind(path).map_err(error)?;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(error)?;
    Ok(listener)
}

/// Serves the admin interface on the Unix socket until the process ends.
pub async fn serve(listener: UnixListener, requests: Requests) -> std::io::Result<()> {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/reload", post(reload))
        .route("/v1/explain", post(explain))
        .route("/v1/flows", post(flows))
        .route("/metrics", get(metrics_text))
        .with_state(requests);
    axum::serve(listener, router).await
}

/// Serves the metrics alone over TCP until the process ends.
pub async fn serve_metrics(listener: TcpListener, requests: Requests) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .with_state(requests);
    axum::serve(listener, router).await
}

/// Binds the metrics address.
pub async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, AdminError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| AdminError::Metrics { address, source })
}

async fn status(State(requests): State<Requests>) -> Response {
    match ask(&requests, Request::Status).await {
        Some(status) => Json(status).into_response(),
        None => stopping(),
    }
}

async fn reload(State(requests): State<Requests>) -> Response {
    match ask(&requests, Request::Reload).await {
        Some(outcome) if outcome.in_force => Json(outcome).into_response(),
        Some(outcome) => (StatusCode::UNPROCESSABLE_ENTITY, Json(outcome)).into_response(),
        None => stopping(),
    }
}

async fn explain(State(requests): State<Requests>, Json(probe): Json<Probe>) -> Response {
    match ask(&requests, |answer| {
        Request::Explain(Box::new(probe), answer)
    })
    .await
    {
        Some(Ok(explanation)) => Json(explanation).into_response(),
        Some(Err(reason)) => (StatusCode::UNPROCESSABLE_ENTITY, reason).into_response(),
        None => stopping(),
    }
}

async fn flows(State(requests): State<Requests>, Json(query): Json<FlowsQuery>) -> Response {
    match ask(&requests, |answer| Request::Flows(query, answer)).await {
        Some(answer) => Json(answer).into_response(),
        None => stopping(),
    }
}

async fn metrics_text(State(requests): State<Requests>) -> Response {
    match ask(&requests, Request::Status).await {
        Some(status) => {
            let content_type = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
            (content_type, metrics::render(status)).into_response()
        }
        None => stopping(),
    }
}

async fn ask<T>(
    requests: &Requests,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    requests.send(request(answer)).await.ok()?;
    answered.await.ok()
}

fn stopping() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "stopping").into_response()
}

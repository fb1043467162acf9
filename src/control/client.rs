//! Asks a running instance over its admin socket.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no running instance answers on {path}: {source}")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The conversation failed half way.
    #[error("admin socket {path}: {reason}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// An answer's status and body.
#[derive(Debug)]
pub struct Answer {
    /// 200 unless the request was refused.
    pub status: StatusCode,
    /// Its text.
    pub body: String,
}

/// Sends one request and waits for the whole answer.
pub fn ask(socket: &Path, method: Method, path: &str, body: String) -> Result<Answer, ClientError> {
    let broken = |reason: String| ClientError::Broken {
        path: socket.to_owned(),
        reason,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| broken(error.to_string()))?;
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|source| ClientError::NotRunning {
            path: socket.to_owned(),
            source,
        })?;
        exchange(stream, method, path, body).await.map_err(broken)
    })
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: String,
) -> Result<Answer, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "portcullis")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    connection.abort();
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Answer { status, body })
}

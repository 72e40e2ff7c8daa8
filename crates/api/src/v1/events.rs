//! `/v1/events`: the chain as it happens, as server-sent events or over a WebSocket.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};

use super::about;
use super::follower::{Cursor, Event, Follower};
use crate::Api;
use crate::answer::ApiError;
use crate::documents::Routes;
use crate::parameters::{Asked, Kind, Parameter, Schema};

const FOLLOW: Schema = Schema {
    parameters: &[Parameter::optional(
        "after",
        Kind::Text(1, 41),
        "Go on after this operation, <epoch>-<seq> or <seq>; 0: from the beginning. Else from now on",
    )],
    closed: false,
};
/// So that nobody between the two thinks that the connection is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Clients have nothing to say but pings.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The route.
pub fn routes() -> Routes {
    Routes::new().get::<Event, _, _>(
        crate::limits::EVENTS_PATH,
        about("The chain as it happens: server-sent events, or a WebSocket", &FOLLOW),
        events,
    )
}

async fn events(State(api): State<Api>, asked: Asked, request: Request) -> Result<Response, ApiError> {
    let given = api.check_ours(&asked, &FOLLOW)?;
    let last =
        request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or_default().to_owned());
    let cursor = match last.as_deref().or_else(|| given.text("after")) {
        None => None,
        Some(text) => Some(Cursor::parse(text).ok_or_else(|| {
            ApiError::malformed("after is <epoch>-<seq> or <seq>, as an event's id says it")
        })?),
    };
    let ear = api.hub().follow(&api).ok_or_else(|| {
        ApiError::failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many follow the chain here",
            "Try again later, or ask another process.",
        )
    })?;
    let follower = Follower::new(api.clone(), ear, cursor);
    if !wants_websocket(request.headers()) {
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
        return Ok(Sse::new(sent(follower)).keep_alive(keep_alive).into_response());
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &api)
        .await
        .map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    Ok(upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(|socket| speak(socket, follower)))
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get("upgrade").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn sent(follower: Follower) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send {
    stream::unfold(follower, |mut follower| async move {
        let (id, event) = follower.next().await?;
        let text = SseEvent::default().event(name(&event)).data(text(&event));
        let text = match id {
            Some(id) => text.id(id),
            None => text,
        };
        Some((Ok(text), follower))
    })
}

fn text(event: &Event) -> String {
    // Texts and numbers always become JSON.
    serde_json::to_string(event).unwrap_or_default()
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Accepted { .. } => "accepted",
        Event::RoundEnd { .. } => "round-end",
        Event::TakenBack { .. } => "taken-back",
        Event::Durable { .. } => "durable",
        Event::Guard { .. } => "guard",
        Event::Reset { .. } => "reset",
    }
}

/// One event a message, until either side ends it.
async fn speak(mut socket: WebSocket, mut follower: Follower) {
    let mut alive = tokio::time::interval(KEEP_ALIVE);
    loop {
        let message = tokio::select! {
            told = follower.next() => match told {
                Some((_, event)) => Message::text(text(&event)),
                None => {
                    // The other side may be gone already.
                    let _ = socket.send(Message::Close(None)).await;
                    return;
                }
            },
            _ = alive.tick() => Message::Ping(bytes::Bytes::new()),
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

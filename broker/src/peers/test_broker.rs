//! The other end of the connections under test: a real listener that speaks the protocol, or does not.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use highwater_protocol::api_key::ApiKey;
use highwater_protocol::codec::{Decoder, Wire};
use highwater_protocol::frame::{
    FrameReader, RequestHeader, decode_body, decode_request_header, encode_response,
};
use highwater_protocol::ids::{ClusterId, NodeId};
use highwater_protocol::limits::FRAME_BYTES_MAX_DEFAULT;
use highwater_protocol::messages::{ApiRange, HelloRequest, HelloResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the broker does about a request: the frame that answers it, if one does.
pub(crate) type Handling = Pin<Box<dyn Future<Output = Option<Vec<Bytes>>> + Send>>;
type Handler = Arc<dyn Fn(RequestHeader, Decoder) -> Handling + Send + Sync>;

/// A broker that answers with whatever its handler says. Requests of a connection are handled at the
/// same time, and answered as they are ready.
pub(crate) struct TestBroker {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    connections: Arc<AtomicUsize>,
    hellos: Arc<AtomicUsize>,
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl TestBroker {
    pub(crate) async fn start(
        node: NodeId,
        cluster: ClusterId,
        handler: impl Fn(RequestHeader, Decoder) -> Handling + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        Self::on(listener, node, cluster, handler)
    }

    pub(crate) fn on(
        listener: TcpListener,
        node: NodeId,
        cluster: ClusterId,
        handler: impl Fn(RequestHeader, Decoder) -> Handling + Send + Sync + 'static,
    ) -> Self {
        let broker = Self {
            address: listener.local_addr().expect("bound"),
            stop: CancellationToken::new(),
            connections: Arc::default(),
            hellos: Arc::default(),
        };
        let stop = broker.stop.clone();
        let connections = Arc::clone(&broker.connections);
        let hellos = Arc::clone(&broker.hellos);
        let handler: Handler = Arc::new(handler);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stop.cancelled() => return,
                };
                let Ok((stream, _)) = accepted else { continue };
                connections.fetch_add(1, Ordering::SeqCst);
                let serving = serve(
                    stream,
                    node,
                    cluster,
                    Arc::clone(&handler),
                    Arc::clone(&hellos),
                );
                let stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        });
        broker
    }

    /// Connections that were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Times that it was greeted.
    pub(crate) fn hellos(&self) -> usize {
        self.hellos.load(Ordering::SeqCst)
    }

    /// Drops every connection and listens no more.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

/// An answer, as a handler gives it.
pub(crate) fn answer<B: Wire>(header: RequestHeader, body: &B) -> Option<Vec<Bytes>> {
    Some(encode_response(body, header.version, header.correlation))
}

async fn serve(
    mut stream: TcpStream,
    node: NodeId,
    cluster: ClusterId,
    handler: Handler,
    hellos: Arc<AtomicUsize>,
) {
    let mut received = BytesMut::new();
    let mut frames = FrameReader::new(FRAME_BYTES_MAX_DEFAULT);
    let (mut reader, mut writer) = stream.split();
    let (answers, mut answered) = mpsc::channel::<Vec<Bytes>>(64);
    let reading = async {
        loop {
            while let Ok(Some(frame)) = frames.next_frame(&mut received) {
                let mut input = Decoder::new(frame);
                let Ok(header) = decode_request_header(&mut input) else {
                    return;
                };
                if header.api == ApiKey::Hello.code() {
                    let _: HelloRequest = decode_body(input, header.version).expect("a Hello");
                    hellos.fetch_add(1, Ordering::SeqCst);
                    let hello = answer(header, &hello(node, cluster)).expect("an answer");
                    let _ = answers.send(hello).await;
                    continue;
                }
                let handling = handler(header, input);
                let answers = answers.clone();
                tokio::spawn(async move {
                    if let Some(frame) = handling.await {
                        let _ = answers.send(frame).await;
                    }
                });
            }
            match reader.read_buf(&mut received).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    let writing = async {
        while let Some(frame) = answered.recv().await {
            for slice in frame {
                if writer.write_all(&slice).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

fn hello(node_id: NodeId, cluster_id: ClusterId) -> HelloResponse {
    HelloResponse {
        cluster_id,
        node_id,
        broker_version: "test".to_owned(),
        apis: ApiKey::ALL
            .iter()
            .map(|api| ApiRange {
                api: api.code(),
                version_min: 1,
                version_max: 1,
            })
            .collect(),
        frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
        in_flight_bytes_max: 64 << 20,
        in_flight_requests_max: 256,
        auth_mechanisms: Vec::new(),
    }
}

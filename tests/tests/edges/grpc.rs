//! The example's gRPC service: what streaming calls write is in their trailers.

use std::time::{Duration, Instant};

use highwater_examples::grpc::{
    Carts, carts,
    proto::{CountRequest, Line, PutRequest, ShowRequest},
};
use highwater_http::{PropagateLayer, TOKEN_HEADER, TokenJar};
use highwater_testkit::Topology;
use tokio_stream::StreamExt;

use super::{
    common::{SOON, client},
    serve_carts,
};

fn put(sku: &str, quantity: u32) -> PutRequest {
    PutRequest {
        user: "ann".to_owned(),
        sku: sku.to_owned(),
        quantity,
    }
}

/// How many of it are in the cart, with the tokens that the client has.
async fn quantity(carts: &mut Carts, sku: &str) -> Option<u32> {
    let show = ShowRequest {
        user: "ann".to_owned(),
    };
    let cart = carts.show(show).await.unwrap().into_inner();
    cart.items.get(sku).copied()
}

async fn all(mut lines: tonic::Streaming<Line>) -> Vec<u32> {
    let mut quantities = Vec::new();
    while let Some(line) = lines.next().await {
        quantities.push(line.unwrap().quantity);
    }
    quantities
}

/// A call of each kind; gives back the quantity that was written last.
async fn write(carts: &mut Carts, round: u32) -> u32 {
    let count = CountRequest {
        user: "ann".to_owned(),
        sku: "apples".to_owned(),
        up_to: round + 1,
    };
    match round % 3 {
        0 => {
            let line = carts.put(put("apples", round + 1)).await.unwrap();
            assert_eq!(line.into_inner().quantity, round + 1);
        }
        1 => {
            let lines = carts.count(count).await.unwrap().into_inner();
            assert_eq!(all(lines).await, (1..=round + 1).collect::<Vec<_>>());
        }
        _ => {
            let puts = tokio_stream::iter([put("apples", round), put("apples", round + 1)]);
            let lines = carts.fill(puts).await.unwrap().into_inner();
            assert_eq!(all(lines).await, [round, round + 1]);
        }
    }
    round + 1
}

/// Two processes of the service, replicas 200 ms behind: whatever the call, its client reads what it wrote.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_streaming_call_writes_is_read_back_by_its_client() {
    let topology = Topology::builder()
        .replicas(2)
        .delay(Duration::from_millis(200))
        .start()
        .unwrap();
    let [one, two] = [client(&topology).await, client(&topology).await];
    let addresses = [serve_carts(one).await, serve_carts(two).await];
    let propagate = PropagateLayer::opaque(TokenJar::new());
    let mut with_tokens = addresses
        .each_ref()
        .map(|address| carts(address, &propagate).unwrap());
    // Sends no tokens, and shows what that means.
    let forgetful = || PropagateLayer::opaque(TokenJar::new());

    let (mut round, mut at_risk) = (0, 0);
    let deadline = Instant::now() + SOON;
    while round < 12 || at_risk < 10 {
        // So that the tokens of earlier calls don't ask for more than the replicas have.
        tokio::task::block_in_place(|| topology.wait_in_sync(SOON)).unwrap();
        let process = round as usize % 2;
        let written = write(&mut with_tokens[process], round).await;
        let mut without = carts(&addresses[1 - process], &forgetful()).unwrap();
        at_risk += u32::from(quantity(&mut without, "apples").await != Some(written));
        let seen = quantity(&mut with_tokens[1 - process], "apples").await;
        assert_eq!(seen, Some(written), "round {round}");
        round += 1;
        assert!(
            Instant::now() < deadline,
            "nothing was at risk: {at_risk} of {round}"
        );
    }
}

/// The same with replicas that get nothing at all, and with each place of the token looked at.
#[tokio::test(flavor = "multi_thread")]
async fn the_headers_have_what_was_known_and_the_trailers_the_rest() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let address = serve_carts(client(&topology).await).await;
    topology.relay(0).pause();
    let jar = TokenJar::new();
    let mut with_tokens = carts(&address, &PropagateLayer::opaque(jar.clone())).unwrap();
    let count = CountRequest {
        user: "ann".to_owned(),
        sku: "apples".to_owned(),
        up_to: 3,
    };
    let response = with_tokens.count(count).await.unwrap();
    assert!(
        !response.metadata().contains_key(TOKEN_HEADER.as_str()),
        "nothing was written before the headers left"
    );
    let mut lines = response.into_inner();
    for _ in 0..3 {
        lines.message().await.unwrap().unwrap();
    }
    assert!(jar.tokens().is_empty());
    let trailers = lines.trailers().await.unwrap().unwrap();
    assert!(trailers.contains_key(TOKEN_HEADER.as_str()));
    assert_eq!(jar.tokens().len(), 1);
    assert_eq!(quantity(&mut with_tokens, "apples").await, Some(3));

    // An error after a write has its token as well.
    let puts = tokio_stream::iter([put("apples", 5), put("", 6)]);
    let mut lines = with_tokens.fill(puts).await.unwrap().into_inner();
    assert_eq!(lines.message().await.unwrap().unwrap().quantity, 5);
    let error = lines.message().await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert_eq!(quantity(&mut with_tokens, "apples").await, Some(5));

    let mut without = carts(&address, &PropagateLayer::opaque(TokenJar::new())).unwrap();
    assert_eq!(
        quantity(&mut without, "apples").await,
        None,
        "the replica has nothing"
    );
    topology.relay(0).resume();
}

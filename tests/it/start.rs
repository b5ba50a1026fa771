//! What a cold start asks of others. It does not know how long that takes; `make bench` measures it.

use testkit::clevertap::CleverTap;
use testkit::harness::{ACCOUNT_ID, PASSCODE, World, body, listen, relayed};

/// Connections to Secrets Manager and requests on them, connections to CleverTap and requests on them.
fn traffic(world: &World) -> [usize; 4] {
    [
        world.secrets_manager.connections(),
        world.secrets_manager.requests(),
        world.clevertap.connections(),
        world.clevertap.requests(),
    ]
}

/// A function whose first connection has been opened, however busy the machine is.
async fn started() -> World {
    let world = World::start(&[]).await;
    while world.clevertap.requests() == 0 {
        tokio::task::yield_now().await;
    }
    world
}

#[tokio::test]
async fn the_first_event_finds_one_secret_read_and_one_connection_opened() {
    let world = started().await;
    assert_eq!(world.post(&body()).await, relayed());
    // To CleverTap: the request that opens the connection, and the upload on it.
    assert_eq!(traffic(&world), [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_later_event_asks_for_nothing_but_its_upload() {
    let world = started().await;
    for uploads in 1..=3 {
        assert_eq!(world.post(&body()).await, relayed());
        assert_eq!(world.clevertap.uploads().len(), uploads);
        assert_eq!(traffic(&world), [1, 1, 1, 1 + uploads]);
    }
}

#[tokio::test]
async fn a_first_connection_that_never_answers_holds_up_no_event() {
    let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
    let (listener, url) = listen().await;
    let server = clevertap.clone();
    tokio::spawn(async move {
        // As if the environment had been frozen between its start and its first event.
        let _silent = listener.accept().await;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(server.clone().serve_connection(stream));
        }
    });
    let world = World::start(&[("CLEVERTAP_API_URL", &url)]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(clevertap.uploads().len(), 1);
}

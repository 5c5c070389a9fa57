//! A session that writes and reads: `quickstart redis://PRIMARY redis://REPLICA…`

use highwater::{Client, ClientBuilder, Command, Session};
use redis::AsyncCommands;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut urls = std::env::args().skip(1);
    let primary = urls.next().ok_or("give the URLs of a primary and its replicas")?;
    let client = urls
        .fold(Client::builder().primary(primary), ClientBuilder::replica)
        .connect()
        .await?;

    // What one user depends on. A service has one for each request: see axum-cart.
    let session = Session::new();
    let () = client.with(&session).hset("cart:ann", "apples", 3).await?;

    // From a replica if one proves to have the write, from the primary if not.
    let apples: u32 = client.with(&session).hget("cart:ann", "apples").await?;
    println!("ann has {apples} apples; reads so far: {}", session.routes());

    // The same, and why it came from there.
    let command = Command::new(redis::cmd("HGETALL").arg("cart:ann")).session(&session);
    let reply = client.call(command).await?;
    println!("{:?} from {:?}: {:?}", reply.value, reply.route, reply.reason);
    Ok(())
}

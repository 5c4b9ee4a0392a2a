//! The cell with `zookeeper-client`.

use futures::TryFutureExt;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::{Cell, DATA, Result, Taken, timed};

pub async fn run(cell: &Cell) -> Result<Taken> {
    let client = Client::connect(&cell.server).await?;
    let parent = cell.parent();
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create(&parent, &DATA, &options).await?;
    let taken = match cell.operation.as_str() {
        "get" => timed(cell, |_| client.get_data(&parent).map_ok(drop)).await?,
        "set" => timed(cell, |_| client.set_data(&parent, &DATA, None).map_ok(drop)).await?,
        "create" => {
            // Its future borrows the path.
            let numbers = cell.warm_up() + cell.operations;
            let paths: Vec<_> = (0..numbers).map(|n| format!("{parent}/{n}")).collect();
            timed(cell, |number| {
                client.create(&paths[number], &DATA, &options).map_ok(drop)
            })
            .await?
        }
        other => return Err(format!("no operation {other}").into()),
    };
    let cleaner = quorate_client::Client::connect(cell.server.clone()).await?;
    cleaner.delete_recursive(&parent).await?;
    Ok(taken)
}

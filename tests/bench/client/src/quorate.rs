//! The cell with `quorate-client`.

use bytes::Bytes;
use futures::TryFutureExt;
use quorate_client::Client;

use crate::{Cell, DATA, Result, Taken, timed};

pub async fn run(cell: &Cell) -> Result<Taken> {
    let client = Client::connect(cell.server.clone()).await?;
    let parent = cell.parent();
    let data = Bytes::from_static(&DATA);
    client.create(&parent, data.clone()).await?;
    let taken = match cell.operation.as_str() {
        "get" => timed(cell, |_| client.get(&parent).send().map_ok(drop)).await?,
        "set" => {
            timed(cell, |_| {
                client.set(&parent, data.clone()).send().map_ok(drop)
            })
            .await?
        }
        "create" => {
            let numbers = cell.warm_up() + cell.operations;
            let paths: Vec<_> = (0..numbers).map(|n| format!("{parent}/{n}")).collect();
            timed(cell, |number| {
                let create = client.create(&paths[number], data.clone());
                create.send().map_ok(drop)
            })
            .await?
        }
        other => return Err(format!("no operation {other}").into()),
    };
    client.delete_recursive(&parent).await?;
    client.close().await?;
    Ok(taken)
}

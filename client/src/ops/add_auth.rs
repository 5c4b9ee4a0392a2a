//! auth: an identity more.

use quorate_proto::Request;
use quorate_proto::request::AuthPacket;

use crate::auth::Credential;
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;

impl Client {
    /// Adds an identity to the connection, and to every later one of this client.
    ///
    /// Queued by the call itself: requests that are called later have the identity. Credentials
    /// that are known before the first connection belong to
    /// [`ClientBuilder::credential`](crate::ClientBuilder::credential).
    ///
    /// # Errors
    /// [`Error::NotAllowed`](crate::Error::NotAllowed) if the server refuses it, which also ends
    /// the client: a server takes no request from one whose credentials are false.
    ///
    /// # Cancel safety
    /// The credential is remembered, whatever becomes of the future.
    ///
    /// Source: ZooKeeper `addAuthInfo`; Curator `authorization()`; kazoo `add_auth`.
    pub fn add_auth(&self, credential: Credential) -> Call<()> {
        let operation = Operation::new(self, "auth", "", Repeat::Freely);
        self.session().remember_credential(credential.clone());
        let request = move |operation: &Operation| {
            let packet = AuthPacket {
                kind: 0,
                scheme: Some(credential.scheme().into()),
                auth: Some(credential.auth()),
            };
            operation.submit(&Request::Auth(packet), None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, |_, _| Ok(())))
    }
}

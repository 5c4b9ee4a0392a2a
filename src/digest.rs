//! `quorate digest`: the identity of `user:password`, as ZooKeeper's own tool prints it.

use quorate_server::config::{DigestAlgorithm, digest_identity};

use crate::cli::{Algorithm, DigestArgs};
use crate::codes;
use crate::failure::Failure;

pub(crate) fn run(args: &DigestArgs) -> Result<(), Failure> {
    let algorithm = match args.algorithm {
        Algorithm::Sha1 => DigestAlgorithm::Sha1,
        Algorithm::Sha256 => DigestAlgorithm::Sha256,
        Algorithm::Sha512 => DigestAlgorithm::Sha512,
    };
    if args.user_password != "-" {
        let given = &args.user_password;
        if !given.contains(':') {
            crate::say("warning: there is no `:` in it, so the password is empty");
        }
        return crate::data(&format!("{given}->{}\n", digest_identity(given, algorithm)));
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|error| {
        Failure::new(&codes::UNEXPECTED, "cannot read standard input").detail(error.to_string())
    })?;
    // Whoever keeps the password off the command line does not want it on the screen either.
    let given = line.trim_end_matches(['\r', '\n']);
    crate::data(&format!("{}\n", digest_identity(given, algorithm)))
}

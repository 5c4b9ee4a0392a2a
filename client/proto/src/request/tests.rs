//! What holds for single requests; the rest is in the golden bytes and the properties.

use super::*;

#[test]
fn reading_a_request_copies_neither_path_nor_data() {
    let mut out = BytesMut::new();
    let requests = [
        Request::GetData(PathWatch {
            path: "/a/b".into(),
            watch: true,
        }),
        Request::SetData(SetData {
            path: "/a/b".into(),
            data: Some(b"data"),
            version: Version::ANY,
        }),
    ];
    for request in requests {
        out.clear();
        request.encode(&mut Writer::new(&mut out));
        let (Request::GetData(PathWatch { path, .. }) | Request::SetData(SetData { path, .. })) =
            Request::decode(request.op(), &out).unwrap()
        else {
            panic!("another request");
        };
        assert!(matches!(path, Cow::Borrowed("/a/b")));
    }
}

#[test]
fn a_null_path_has_the_code_that_zookeeper_gives_it() {
    let null = [0xff; 4];
    for (op, code) in [
        (OpCode::SetData, ErrorCode::BadArguments),
        (OpCode::SetAcl, ErrorCode::BadArguments),
        (OpCode::Delete, ErrorCode::MarshallingError),
        (OpCode::GetData, ErrorCode::MarshallingError),
    ] {
        let error = Request::decode(op, &null).unwrap_err();
        assert_eq!(error, DecodeError::Null { field: "path" });
        assert_eq!(Request::decode_error_code(op, error), code, "{op:?}");
    }
}

#[test]
fn credentials_are_not_printed() {
    let auth = Request::Auth(AuthPacket {
        kind: 0,
        scheme: Some("digest".into()),
        auth: Some(b"user:secret"),
    });
    let sasl = Request::Sasl(SaslToken(Some(b"secret")));
    let acl = Request::SetAcl {
        path: "/a".into(),
        acl: Some(vec![AclRef {
            perms: crate::Perms::ALL,
            scheme: Some("digest".into()),
            id: Some("user:secret".into()),
        }]),
        version: Version::ANY,
    };
    for request in [auth, sasl, acl] {
        let text = format!("{request:?}");
        let bytes = format!("{:?}", b"secret");
        assert!(!text.contains("secret") && !text.contains(&bytes[1..bytes.len() - 1]));
    }
}

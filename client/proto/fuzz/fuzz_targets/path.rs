//! A string as it stands in a record, then the rules for paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_proto::jute::Reader;
use quorate_proto::path;

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new(data);
    while let Ok(text) = reader.string("path") {
        let Some(text) = text else { continue };
        let _ = (path::split(&text), path::parent(&text), path::name(&text));
        if path::validate(&text).is_err() {
            continue;
        }
        assert!(text.chars().all(path::is_allowed));
        let mut ancestor = path::parent(&text);
        let mut depth = text.matches('/').count();
        while let Some(path) = ancestor {
            // A parent is shorter, and keeps the rules.
            assert!(path::validate(path).is_ok());
            assert!(depth > 0);
            depth -= 1;
            ancestor = path::parent(path);
        }
    }
});

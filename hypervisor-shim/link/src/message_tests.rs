//! Tests of the messages (trust label: CHECKED).

extern crate std;
use super::*;
use std::vec::Vec;

fn request(fill: impl FnOnce(&mut Encoder<Cursor<&mut [u8]>>)) -> Vec<u8> {
    let mut bytes = [0; 256];
    let mut encoder = Encoder::new(Cursor::new(&mut bytes[..]));
    fill(&mut encoder);
    let length = encoder.writer().position();
    bytes[..length].to_vec()
}

#[test]
fn arguments_are_found_in_any_order_behind_nested_values() {
    let body = request(|e| {
        e.array(3).unwrap().u64(7).unwrap().str("call").unwrap().map(4).unwrap();
        e.str("deep").unwrap().array(2).unwrap().map(1).unwrap().str("cpu").unwrap().u8(9).unwrap();
        e.bytes(b"cpu").unwrap();
        e.str("regs").unwrap().array(2).unwrap().u64(u64::MAX).unwrap().u64(1).unwrap();
        e.str("none").unwrap().null().unwrap();
        e.str("cpu").unwrap().u64(3).unwrap();
    });
    let request = Request::parse(&body).expect("a request");
    assert_eq!((request.sequence, request.operation), (7, "call"));
    assert_eq!(request.u64("cpu"), Ok(3));
    assert_eq!(request.integers::<18>("regs").map(|(values, n)| (values[0], values[1], n)), Ok((u64::MAX, 1, 2)));
    assert_eq!(request.optional_text("none"), Ok(None));
    assert_eq!(request.optional_text("absent"), Ok(None));
    assert!(request.optional_text("cpu").is_err());
    assert!(request.index("cpu", 3).is_err());
    assert!(request.bytes("cpu").is_err());
    assert!(request.integers::<1>("regs").is_err());
    assert!(request.pairs::<4>("regs").is_err());
}

#[test]
fn what_is_no_request_is_refused() {
    for body in [&[0x80][..], &[0x83, 0, 0x61, b'x', 0xa0], &[0x83, 1, 2, 0xa0], &[0xff; 9], &[0x9b; 9], &[]] {
        assert!(Request::parse(body).is_none());
    }
}

#[test]
fn every_truncation_and_every_byte_change_is_survived() {
    let good = request(|e| {
        e.array(3).unwrap().u64(1).unwrap().str("start").unwrap().map(2).unwrap();
        e.str("ram").unwrap().array(1).unwrap().array(2).unwrap().u64(1 << 30).unwrap().u64(2).unwrap();
        e.str("dtb").unwrap().bytes(&[1, 2, 3]).unwrap();
    });
    for length in 0..=good.len() {
        for position in 0..good.len() {
            for value in [0, 0x1b, 0x5f, 0x7f, 0x9f, 0x9b, 0xbb, 0xbf, 0xd8, 0xff] {
                let mut bad = good.clone();
                bad[position] = value;
                if let Some(request) = Request::parse(&bad[..length]) {
                    let _ = (request.pairs::<4>("ram"), request.bytes("dtb"), request.text("kernel"));
                }
            }
        }
    }
}

#[test]
fn arguments_are_known_names_once_each_and_nothing_else() {
    let of = |arguments: &[u8]| {
        let body = [&[0x83, 1, 0x61, b'x'], arguments].concat();
        let request = Request::parse(&body).expect("the head is that of a request");
        request.only(&["a", "b"])
    };
    for sound in [&[0xa0][..], &[0xa1, 0x61, b'a', 1], &[0xa2, 0x61, b'b', 0x80, 0x61, b'a', 0xf6]] {
        assert_eq!(of(sound), Ok(()), "{sound:x?}");
    }
    let deep: Vec<u8> = [&[0xa1, 0x61, b'a'], &[0x81; 8000][..], &[0xf6]].concat();
    assert_eq!(of(&deep), Ok(()), "nesting costs nothing, for nobody descends");
    for malformed in [
        &[][..],
        &[0x80],
        &[7],
        &[0xf6],
        &[0xa0, 0],
        &[0xa1],
        &[0xa1, 0x61, b'a'],
        &[0xa1, 1, 1],
        &[0xa2, 0x61, b'a', 1, 0x61, b'a', 1],
        &[0xa2, 0x61, b'a', 1, 0x61, b'a', 2],
        &[0xa1, 0x61, b'c', 1],
        &[0xbf, 0x61, b'a', 1, 0xff],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x61, b'a', 1],
        &[0xa1, 0x61, b'a', 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xa1, 0x61, b'a', 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xa1, 0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &deep[..deep.len() - 1],
    ] {
        assert_eq!(of(malformed).map_err(|refusal| refusal.code), Err(CODE_REQUEST), "{malformed:x?}");
    }
}

#[test]
fn an_optional_argument_of_a_wrong_type_is_not_a_missing_one() {
    let body = [0x83, 1, 0x61, b'x', 0xa2, 0x61, b'a', 0x61, b'7', 0x61, b'n', 0xf6];
    let request = Request::parse(&body).expect("a request");
    assert_eq!((request.optional_u64("n"), request.optional_u64("c")), (Ok(None), Ok(None)));
    assert_eq!((request.optional_bytes("n"), request.optional_bytes("c")), (Ok(None), Ok(None)));
    assert!(request.optional_u64("a").is_err() && request.optional_bytes("a").is_err());
    assert_eq!(request.optional_text("a"), Ok(Some("7")));
}

#[test]
fn random_bodies_are_survived() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good = request(|e| {
        e.array(3).unwrap().u64(1).unwrap().str("start").unwrap().map(3).unwrap();
        e.str("ram").unwrap().array(1).unwrap().array(2).unwrap().u64(1 << 30).unwrap().u64(2).unwrap();
        e.str("dtb").unwrap().bytes(&[1, 2, 3]).unwrap().str("cpus").unwrap().u64(2).unwrap();
    });
    let (mut sound, mut refused) = (0, 0);
    for _ in 0..200_000 {
        let mut body = good.clone();
        for _ in 0..1 + draw() % 4 {
            let place = draw() as usize % body.len();
            match draw() % 3 {
                0 => body[place] = draw() as u8,
                1 => body.truncate(place.max(1)),
                _ => body.insert(place, [0x9b, 0xbb, 0x5b, 0x7b, 0xbf, 0xff, 0x81, 0xf6][draw() as usize % 8]),
            }
        }
        let Some(request) = Request::parse(&body) else { continue };
        let all = (request.pairs::<4>("ram"), request.bytes("dtb"), request.u64("cpus"));
        match request.only(&["ram", "dtb", "cpus"]) {
            Ok(()) => sound += 1,
            Err(_) => refused += 1,
        }
        assert!(all.1.is_ok_and(|data| data.len() <= body.len()) || all.1.is_err());
    }
    assert!(sound > 100 && refused > 100, "{sound} {refused}");
}

#[test]
fn replies_and_refusals_have_their_form() {
    let body = [0x83, 5, 0x61, b'x', 0xa0];
    let parsed = Request::parse(&body).expect("a request");
    let mut out = [0; 64];
    let length = answer(&mut out, &parsed, |_, reply| {
        reply.u64("n", 1);
        Ok(())
    });
    assert_eq!(&out[..length], &[0x83, 5, 0, 0xbf, 0x61, b'n', 1, 0xff]);
    let length = answer(&mut out, &parsed, |_, reply| {
        reply.u64("half an answer", 1);
        Err(Refusal::fault(0x9600_0007))
    });
    assert_eq!(&out[..4], &[0x83, 5, 1, 0xbf]);
    assert!(length > 10);
    let length = answer(&mut out, &parsed, |_, reply| {
        reply.bytes("big", &[0; 100]);
        Ok(())
    });
    assert_eq!(&out[..4], &[0x83, 5, 3, 0xbf]);
    assert!(length > 10);
}

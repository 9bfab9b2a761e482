//! Tests of the framing (trust label: CHECKED).

extern crate std;
use super::*;
use std::vec::Vec;

fn frame(content: &[u8]) -> Vec<u8> {
    let mut body = [0; BODY_MAX + 4];
    let mut wire = [0; WIRE_MAX];
    body[..content.len()].copy_from_slice(content);
    encode(&mut body, content.len(), &mut wire).expect("fits").to_vec()
}

fn feed(receiver: &mut Receiver, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for byte in bytes {
        if let Some(length) = receiver.push(*byte) {
            bodies.push(receiver.body(length).to_vec());
        }
    }
    bodies
}

#[test]
fn round_trip_of_all_lengths_near_the_cobs_limits() {
    let mut receiver = Receiver::new();
    for length in [1, 2, 249, 250, 251, 253, 254, 255, 256, 508, 4096, BODY_MAX] {
        for fill in [0_u8, 1, 0xff] {
            let content = std::vec![fill; length];
            assert_eq!(feed(&mut receiver, &frame(&content)), [content]);
        }
    }
    assert_eq!(receiver.bad_frames(), 0);
}

#[test]
fn a_flipped_bit_is_dropped_and_counted_and_the_next_frame_is_good() {
    let mut receiver = Receiver::new();
    let good = frame(b"hello");
    for position in 0..good.len() - 1 {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        let before = receiver.bad_frames();
        assert!(feed(&mut receiver, &bad).is_empty());
        assert!(receiver.bad_frames() > before);
        assert_eq!(feed(&mut receiver, &good), [b"hello".to_vec()]);
    }
}

#[test]
fn an_endless_frame_is_one_bad_frame() {
    let mut receiver = Receiver::new();
    assert!(feed(&mut receiver, &[0x41; 3 * WIRE_MAX]).is_empty());
    assert!(feed(&mut receiver, &[0]).is_empty());
    assert_eq!(receiver.bad_frames(), 1);
    assert_eq!(feed(&mut receiver, &frame(b"x")), [b"x".to_vec()]);
}

#[test]
fn the_check_value_of_crc32_is_the_standard_one() {
    assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
}

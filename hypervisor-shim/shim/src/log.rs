//! Lines about unusual things, sent as events `shim_log {text}` (trust label: UNTRUSTED).

/// Sends one formatted line of at most 256 bytes.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        let mut text = bulkhead_el1::panic::Text::<256>::new();
        let _ = write!(text, $($argument)*);
        bulkhead_el1::channel::event("shim_log", |event| event.text("text", text.as_str()));
    }};
}

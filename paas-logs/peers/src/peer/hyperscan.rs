//! As much of Hyperscan as it takes to look for words.
//!
//! The only file with `unsafe` in it: Hyperscan is a C library, and calls of it cannot be checked. Five functions are less to
//! look through than a binding to all of it.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::ptr::{null, null_mut};

#[repr(C)]
struct CompileError {
    message: *mut c_char,
    expression: c_int,
}

type OnMatch = extern "C" fn(c_uint, c_ulonglong, c_ulonglong, c_uint, *mut c_void) -> c_int;

unsafe extern "C" {
    fn hs_compile_lit_multi(
        expressions: *const *const c_char,
        flags: *const c_uint,
        ids: *const c_uint,
        lengths: *const usize,
        elements: c_uint,
        mode: c_uint,
        platform: *const c_void,
        database: *mut *mut c_void,
        error: *mut *mut CompileError,
    ) -> c_int;
    fn hs_alloc_scratch(database: *const c_void, scratch: *mut *mut c_void) -> c_int;
    fn hs_free_scratch(scratch: *mut c_void) -> c_int;
    fn hs_free_database(database: *mut c_void) -> c_int;
    fn hs_scan(
        database: *const c_void,
        data: *const c_char,
        length: c_uint,
        flags: c_uint,
        scratch: *mut c_void,
        on_match: OnMatch,
        context: *mut c_void,
    ) -> c_int;
}

const CASELESS: c_uint = 1;
const BLOCK: c_uint = 1;

/// Words, ready to be looked for.
#[derive(Debug)]
pub(crate) struct Hyperscan {
    database: *mut c_void,
    scratch: *mut c_void,
}

extern "C" fn count(_: c_uint, _: c_ulonglong, _: c_ulonglong, _: c_uint, found: *mut c_void) -> c_int {
    // SAFETY: `scan` hands over a counter that outlives the call.
    unsafe { *found.cast::<usize>() += 1 };
    0
}

impl Hyperscan {
    pub(crate) fn new(words: &[String], is_caseless: bool) -> Self {
        let expressions: Vec<*const c_char> = words.iter().map(|word| word.as_ptr().cast()).collect();
        let lengths: Vec<usize> = words.iter().map(String::len).collect();
        let flags = vec![if is_caseless { CASELESS } else { 0 }; words.len()];
        let ids: Vec<c_uint> = (0..words.len() as c_uint).collect();
        let (mut database, mut scratch, mut error) = (null_mut(), null_mut(), null_mut());
        // SAFETY: all arrays have as many elements as told, and each expression as many bytes.
        let compiled = unsafe {
            hs_compile_lit_multi(
                expressions.as_ptr(),
                flags.as_ptr(),
                ids.as_ptr(),
                lengths.as_ptr(),
                words.len() as c_uint,
                BLOCK,
                null(),
                &raw mut database,
                &raw mut error,
            )
        };
        assert_eq!(compiled, 0, "Hyperscan takes the words");
        // SAFETY: the database was just made.
        let allocated = unsafe { hs_alloc_scratch(database, &raw mut scratch) };
        assert_eq!(allocated, 0, "Hyperscan has room to work");
        Self { database, scratch }
    }

    /// How often any of the words stands in a text, as a whole word or not. Of those who use the scratch there is one at a
    /// time.
    pub(crate) fn count(&mut self, text: &[u8]) -> usize {
        let mut found = 0_usize;
        let context = (&raw mut found).cast();
        // SAFETY: the text has as many bytes as told, and nobody else uses the scratch.
        let scanned = unsafe {
            let length = text.len() as c_uint;
            hs_scan(self.database, text.as_ptr().cast(), length, 0, self.scratch, count, context)
        };
        assert_eq!(scanned, 0, "Hyperscan scans");
        found
    }
}

impl Drop for Hyperscan {
    fn drop(&mut self) {
        // SAFETY: both were made by `new`, and nobody has them any more.
        unsafe {
            hs_free_scratch(self.scratch);
            hs_free_database(self.database);
        }
    }
}

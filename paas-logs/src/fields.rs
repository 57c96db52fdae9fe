//! The fields of many lines as one text.

use paas_core::model::LogFields;

/// The fields of all lines with a newline after each line's, so that nothing goes on in the next one's; and where they begin.
pub(crate) fn apart(fields: &LogFields) -> (Vec<u8>, Vec<u32>) {
    let lines = fields.starts().len();
    let (mut text, mut starts) = (Vec::with_capacity(fields.text().len() + lines), Vec::with_capacity(lines));
    for line in 0..lines {
        starts.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        text.extend_from_slice(fields.of(line));
        text.push(b'\n');
    }
    (text, starts)
}
